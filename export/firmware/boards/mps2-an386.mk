# Arm MPS2 with image AN386: Cortex-M4F, DSP instructions.
CPU = -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16
CLOCK_HZ = 25000000
LINKER_SCRIPT = mps2.ld
