/* Time since clock_start(), in ticks of the processor's clock.
 *
 * Under QEMU's `-icount shift=0` an instruction takes one nanosecond, so that a tick is 10^9 / CLOCK_HZ instructions: 40 on a
 * board of 25 MHz. These are instructions, not cycles of a real core. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

void clock_start(void);

/* Wraps around after 2^32 ticks. Calls less than 2^24 ticks apart are right also while interrupts are off. */
uint32_t clock_now(void);

/* The SysTick exception, for the vector table. */
void clock_handler(void);

#endif
