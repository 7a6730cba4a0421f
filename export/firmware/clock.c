#include "clock.h"

static volatile uint32_t *const SYST_CSR = (volatile uint32_t *)0xE000E010;
static volatile uint32_t *const SYST_RVR = (volatile uint32_t *)0xE000E014;
static volatile uint32_t *const SYST_CVR = (volatile uint32_t *)0xE000E018;

enum { ENABLE = 1, TICKINT = 2, CLKSOURCE_PROCESSOR = 4, PERIOD = 1 << 24 };

static volatile uint32_t wraps;

void clock_handler(void)
{
  wraps++;
}

void clock_start(void)
{
  *SYST_RVR = PERIOD - 1;
  *SYST_CVR = 0;
  *SYST_CSR = ENABLE | TICKINT | CLKSOURCE_PROCESSOR;
}

uint32_t clock_now(void)
{
  uint32_t before;
  uint32_t counter;

  do { /* again when the counter wrapped between the two reads */
    before = wraps;
    counter = *SYST_CVR;
  } while (before != wraps);
  /* It counts down; the exception comes when it reaches 0, which is where a period begins. */
  return before * PERIOD + ((0u - counter) & (PERIOD - 1));
}
