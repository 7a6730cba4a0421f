# Arm MPS3 with image AN547 (Corstone-300): Cortex-M55, DSP and vector (MVE) instructions.
CPU = -mcpu=cortex-m55 -mfloat-abi=hard
CLOCK_HZ = 32000000
LINKER_SCRIPT = mps3-an547.ld
