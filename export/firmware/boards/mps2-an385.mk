# Arm MPS2 with image AN385: Cortex-M3, no DSP instructions.
CPU = -mcpu=cortex-m3 -mfloat-abi=soft
CLOCK_HZ = 25000000
LINKER_SCRIPT = mps2.ld
