/* From reset to main: vectors, coprocessors, initialised data. For any Armv7-M or Armv8-M mainline core. */
#include <stdint.h>

#include "clock.h"
#include "semihosting.h"

extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];

int main(void);
void reset_handler(void);

static void fault_handler(void)
{
  host_exit("the processor faulted (a wild pointer, or the stack is deeper than stack_size in sections.ld)");
}

static void unexpected_handler(void)
{
  host_exit("an interrupt that nobody asked for");
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const struct {
  uint32_t *stack;      // cppcheck-suppress unusedStructMember ; the processor reads it
  handler handlers[15]; // cppcheck-suppress unusedStructMember
} vectors = {
    stack_top,
    {reset_handler,
     unexpected_handler, /* NMI */
     fault_handler,      /* HardFault: the others escalate to it */
     fault_handler,      /* MemManage */
     fault_handler,      /* BusFault */
     fault_handler,      /* UsageFault */
     fault_handler,      /* SecureFault */
     0,
     0,
     0,
     unexpected_handler, /* SVCall */
     unexpected_handler, /* DebugMonitor */
     0,
     unexpected_handler, /* PendSV */
     clock_handler},
};

void reset_handler(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  /* CPACR: full access to the floating-point and vector unit, before any compiled code may use it. */
  volatile uint32_t *const cpacr = (volatile uint32_t *)0xE000ED88;
  /* FPCCR: exceptions save no floating-point registers; the handler here uses none, and the stack stays comparable. */
  volatile uint32_t *const fpccr = (volatile uint32_t *)0xE000EF34;

  *cpacr |= 0xFu << 20;
  *fpccr &= ~(0x3u << 30);
  __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
  for (uint32_t *to = data_start, *from = data_load; to != data_end; to++, from++) {
    *to = *from;
  }
  for (uint32_t *to = bss_start; to != bss_end; to++) {
    *to = 0;
  }
  (void)main();
  host_exit(0);
}
