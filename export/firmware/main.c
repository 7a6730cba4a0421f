/* Runs a generated model on every input of a file: outputs to a file; ticks and the deepest stack to the console, a line each:
 * what, index, value. */
#include <stdint.h>

#include "clock.h"
#include "semihosting.h"
#include TR_HEADER

/* The Makefile names the model: TR_NAME as in its functions, TR_MACRO_NAME as in its macros. */
#define JOINED_(a, b, c) a##b##c
#define JOINED(a, b, c) JOINED_(a, b, c)
#define MODEL(function) JOINED(tr_, TR_NAME, function)
enum {
  INPUT_BYTES = JOINED(TR_, TR_MACRO_NAME, _INPUT_BYTES),
  OUTPUT_BYTES = JOINED(TR_, TR_MACRO_NAME, _OUTPUT_BYTES),
  LAYERS = JOINED(TR_, TR_MACRO_NAME, _LAYERS)
};

extern uint32_t stack_limit[];

static int8_t output[OUTPUT_BYTES];

static void report(const char *what, uint32_t index, uint32_t value)
{
  host_print(what);
  host_print(" ");
  host_print_number(index);
  host_print(" ");
  host_print_number(value);
  host_print("\n");
}

static void infer(void)
{
  if (MODEL(_invoke)(MODEL(_input)(), output) != 0) {
    host_exit("the model returned an error");
  }
}

#ifdef TR_PROFILE

static uint32_t starts[LAYERS + 1];

void tr_profile(unsigned layer);

/* The generated code calls this before each layer, and at the end with their number. */
void tr_profile(unsigned layer)
{
  starts[layer] = clock_now();
}

/* The ticks of each layer. Nothing else is reported: the hooks themselves cost time and stack. */
static void measure(int32_t inputs, int32_t outputs)
{
  host_read(inputs, MODEL(_input)(), INPUT_BYTES);
  infer();
  for (uint32_t i = 0; i < LAYERS; i++) {
    report("layer", i, starts[i + 1] - starts[i]);
  }
  host_write(outputs, output, OUTPUT_BYTES);
}

#else

enum { PAINT = 0x5AFEC0DE };

/* Bytes of stack below this function that one inference touches. Interrupts are off: they would use some too. */
__attribute__((noinline)) static uint32_t deepest_stack(void)
{
  volatile uint32_t *top, *deepest = stack_limit;

  __asm__ volatile("cpsid i" ::: "memory");
  __asm__ volatile("mov %0, sp" : "=r"(top));
  for (volatile uint32_t *word = stack_limit; word < top; word++) {
    *word = PAINT;
  }
  infer();
  while (deepest < top && *deepest == PAINT) {
    deepest++;
  }
  __asm__ volatile("cpsie i" ::: "memory");
  return 4 * (uint32_t)(top - deepest);
}

/* The ticks of each inference, and then the deepest stack of one more. */
static void measure(int32_t inputs, int32_t outputs)
{
  const uint32_t count = host_length(inputs) / INPUT_BYTES;

  for (uint32_t i = 0; i < count; i++) {
    uint32_t start;

    host_read(inputs, MODEL(_input)(), INPUT_BYTES);
    start = clock_now();
    infer();
    report("inference", i, clock_now() - start);
    host_write(outputs, output, OUTPUT_BYTES);
  }
  report("stack", 0, deepest_stack());
}

#endif

int main(void)
{
  const int32_t inputs = host_open_to_read("inputs.bin");
  const int32_t outputs = host_open_to_write("outputs.bin");

#if JOINED(TR_, TR_MACRO_NAME, _STATEFUL)
  MODEL(_reset)();
#endif
  report("clock_hz", 0, TR_CLOCK_HZ);
  clock_start();
  measure(inputs, outputs);
  host_close(outputs);
  host_close(inputs);
  return 0;
}
