# Arm MPS2 with image AN500: Cortex-M7, DSP instructions.
CPU = -mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-sp-d16
CLOCK_HZ = 25000000
LINKER_SCRIPT = mps2.ld
