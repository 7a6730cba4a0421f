#include "semihosting.h"

/* Operations and modes: "Semihosting for AArch32 and AArch64", 2.0. */
enum {
  SYS_OPEN = 0x01,
  SYS_CLOSE = 0x02,
  SYS_WRITE0 = 0x04,
  SYS_WRITE = 0x05,
  SYS_READ = 0x06,
  SYS_FLEN = 0x0C,
  SYS_EXIT_EXTENDED = 0x20
};
enum { OPEN_READ_BINARY = 1, OPEN_WRITE_BINARY = 5 };
enum { ADP_STOPPED_APPLICATION_EXIT = 0x20026 };

static int32_t call(uint32_t operation, const void *argument)
{
  register uint32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;

  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return (int32_t)r0;
}

static int32_t open_file(const char *name, uint32_t mode)
{
  uint32_t length = 0;
  int32_t file;

  while (name[length] != '\0') {
    length++;
  }
  const uintptr_t block[] = {(uintptr_t)name, mode, length};
  file = call(SYS_OPEN, block);
  if (file < 0) {
    host_exit(name);
  }
  return file;
}

int32_t host_open_to_read(const char *name)
{
  return open_file(name, OPEN_READ_BINARY);
}

int32_t host_open_to_write(const char *name)
{
  return open_file(name, OPEN_WRITE_BINARY);
}

uint32_t host_length(int32_t file)
{
  const uintptr_t block[] = {(uintptr_t)file};

  return (uint32_t)call(SYS_FLEN, block);
}

void host_read(int32_t file, void *to, uint32_t size)
{
  const uintptr_t block[] = {(uintptr_t)file, (uintptr_t)to, size};

  if (call(SYS_READ, block) != 0) {
    host_exit("a file is too short");
  }
}

void host_write(int32_t file, const void *from, uint32_t size)
{
  const uintptr_t block[] = {(uintptr_t)file, (uintptr_t)from, size};

  if (call(SYS_WRITE, block) != 0) {
    host_exit("a file cannot be written");
  }
}

void host_close(int32_t file)
{
  const uintptr_t block[] = {(uintptr_t)file};

  (void)call(SYS_CLOSE, block);
}

void host_print(const char *text)
{
  (void)call(SYS_WRITE0, text);
}

void host_print_number(uint32_t number)
{
  char digits[11];
  uint32_t at = sizeof digits - 1;

  digits[at] = '\0';
  do {
    digits[--at] = (char)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  host_print(&digits[at]);
}

void host_exit(const char *failure)
{
  const uintptr_t block[] = {ADP_STOPPED_APPLICATION_EXIT, failure != 0};

  if (failure != 0) {
    host_print("failed: ");
    host_print(failure);
    host_print("\n");
  }
  (void)call(SYS_EXIT_EXTENDED, block);
  for (;;) {
  }
}
