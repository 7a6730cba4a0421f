/* The debugger's (here: the emulator's) files and console, by Arm semihosting 2.0. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>

/* Opens a file in the emulator's working directory, binary: to read, or to write from its start. Exits when it cannot. */
int32_t host_open_to_read(const char *name);
int32_t host_open_to_write(const char *name);

/* Bytes of an open file. */
uint32_t host_length(int32_t file);

/* Reads or writes exactly `size` bytes; exits when there are not as many. */
void host_read(int32_t file, void *to, uint32_t size);
void host_write(int32_t file, const void *from, uint32_t size);

void host_close(int32_t file);

/* Text and numbers on the emulator's console. */
void host_print(const char *text);
void host_print_number(uint32_t number);

/* Ends the emulation; its exit status is 0 when `failure` is a null pointer, else 1, and `failure` is printed. */
_Noreturn void host_exit(const char *failure);

#endif
