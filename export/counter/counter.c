/* Runs a program for an Arm microcontroller on an emulated core (Unicorn), and counts what it executes.
 *
 *   counter MODEL IMAGE < COMMANDS
 *
 * MODEL is Unicorn's number of the core, IMAGE the bytes of flash from address 0. Commands, a line each, numbers as C writes them;
 * $ is what the last function returned:
 *
 *   run START UNTIL              from one address to another
 *   call FUNCTION R0 R1
 *   write ADDRESS HEX            sets bytes of memory
 *   read ADDRESS SIZE            prints "bytes HEX"
 *   count FUNCTION R0 R1         a call; prints "edge FROM SIZE TO SIZE TIMES" for each pair of blocks, 0 0 for none
 *   load ADDRESS BASE INDEX SHIFT OFFSET WIDTH TRANSFERS   a load to look at, registers as Unicorn numbers them, 0 for none
 *   reads FUNCTION R0 R1         a call; prints "reads UNALIGNED OF_FLASH" of these loads
 *
 * Loads are looked at with hooks of code and not of memory: in Unicorn 2.1 a hook of memory that is called within an if-then
 * block spoils what follows. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unicorn/unicorn.h>

/* The memory of export/firmware/mps2.ld, and the core's own registers. */
enum { FLASH_SIZE = 4 << 20, RAM = 0x20000000, RAM_SIZE = 4 << 20, SYSTEM_SIZE = 0x1000 };
static const uint64_t SYSTEM = 0xE000E000;
enum { RETURN = FLASH_SIZE - 16 }; /* where functions return to: nothing lies there */
enum { EDGES = 1 << 16, LOADS = 1 << 13, LINE = 1 << 24 };

struct block {
  uint32_t address, size;
};
struct edge {
  struct block from, to;
  uint64_t times;
};
struct load {
  uint64_t address;
  int base, index;
  unsigned shift;
  int32_t offset;
  unsigned width, transfers;
};

static uc_engine *core;
static struct edge edges[EDGES];
static unsigned edge_count;
static struct block last;
static struct load loads[LOADS];
static unsigned load_count;
static uint64_t unaligned, of_flash;
static uint32_t returned;

static void fail(const char *what, const char *why)
{
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(uc_err error, const char *what)
{
  if (error != UC_ERR_OK) {
    fail(what, uc_strerror(error));
  }
}

static uint32_t get(int reg)
{
  uint32_t value = 0;

  check(uc_reg_read(core, reg, &value), "reading a register");
  return value;
}

static void set(int reg, uint32_t value)
{
  check(uc_reg_write(core, reg, &value), "writing a register");
}

static void run(uint32_t start, uint32_t until)
{
  const uc_err error = uc_emu_start(core, start | 1u, until, 0, 0);

  if (error != UC_ERR_OK || get(UC_ARM_REG_PC) != until) {
    fprintf(stderr, "at address 0x%" PRIx32 ": %s\n", get(UC_ARM_REG_PC), uc_strerror(error));
    exit(1);
  }
}

static void call(uint32_t function, uint32_t r0, uint32_t r1)
{
  set(UC_ARM_REG_R0, r0);
  set(UC_ARM_REG_R1, r1);
  set(UC_ARM_REG_LR, RETURN | 1);
  run(function, RETURN);
  returned = get(UC_ARM_REG_R0);
}

/* The entry of an edge in the table, made where there is none: open addressing. */
static void add(struct block from, struct block to)
{
  uint32_t at = (from.address * 2654435761u ^ to.address * 2246822519u ^ to.size) % EDGES;

  while (edges[at].times != 0 && (memcmp(&edges[at].from, &from, sizeof from) != 0 || memcmp(&edges[at].to, &to, sizeof to) != 0)) {
    at = (at + 1) % EDGES;
  }
  if (edges[at].times == 0) {
    edges[at].from = from;
    edges[at].to = to;
    if (++edge_count == EDGES / 2) {
      fail("counting", "too many pairs of blocks");
    }
  }
  edges[at].times++;
}

static void on_block(uc_engine *uc, uint64_t address, uint32_t size, void *data)
{
  const struct block block = {(uint32_t)address, size};

  (void)uc;
  (void)data;
  add(last, block);
  last = block;
}

static void on_load(uc_engine *uc, uint64_t address, uint32_t size, void *data)
{
  const struct load *load = data;
  const uint32_t index = load->index != 0 ? get(load->index) << load->shift : 0;
  const uint32_t at = get(load->base) + (uint32_t)load->offset + index;

  (void)uc;
  (void)address;
  (void)size;
  if (at % load->width != 0) {
    unaligned += load->width == 4 && at % 2 != 0 ? 2 : 1;
  }
  if (at < FLASH_SIZE) {
    of_flash += load->transfers;
  }
}

static void hook(int kind, uc_cb_hookcode_t callback, void *data, uint64_t first, uint64_t final)
{
  uc_hook handle;
  void *address;

  memcpy(&address, &callback, sizeof address);
  check(uc_hook_add(core, &handle, kind, address, data, first, final), "adding a hook");
}

static void count(uint32_t function, uint32_t r0, uint32_t r1)
{
  const struct block none = {0, 0};

  hook(UC_HOOK_BLOCK, on_block, NULL, 1, 0);
  check(uc_ctl_flush_tb(core), "starting anew"); /* blocks that were translated before call no hook */
  last = none;
  call(function, r0, r1);
  add(last, none);
  for (unsigned i = 0; i < EDGES; i++) {
    if (edges[i].times != 0) {
      printf("edge %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64 "\n", edges[i].from.address, edges[i].from.size,
             edges[i].to.address, edges[i].to.size, edges[i].times);
    }
  }
}

static void reads(uint32_t function, uint32_t r0, uint32_t r1)
{
  for (unsigned i = 0; i < load_count; i++) {
    hook(UC_HOOK_CODE, on_load, &loads[i], loads[i].address, loads[i].address);
  }
  check(uc_ctl_flush_tb(core), "starting anew");
  call(function, r0, r1);
  printf("reads %" PRIu64 " %" PRIu64 "\n", unaligned, of_flash);
}

static int64_t number(void)
{
  const char *word = strtok(NULL, " \n");

  if (word == NULL) {
    fail("a command", "a number is missing");
    return 0;
  }
  return word[0] == '$' ? returned : strtoll(word, NULL, 0);
}

static void write_bytes(uint32_t address)
{
  const char *hex = strtok(NULL, " \n");
  unsigned byte;

  for (; hex != NULL && sscanf(hex, "%2x", &byte) == 1; hex += 2) {
    const uint8_t value = (uint8_t)byte;

    check(uc_mem_write(core, address++, &value, 1), "writing memory");
    if (hex[1] == '\0') {
      break;
    }
  }
}

static void read_bytes(uint32_t address, uint32_t size)
{
  printf("bytes ");
  for (uint32_t i = 0; i < size; i++) {
    uint8_t value;

    check(uc_mem_read(core, address + i, &value, 1), "reading memory");
    printf("%02x", value);
  }
  printf("\n");
}

static void add_load(void)
{
  struct load *load = &loads[load_count];

  if (++load_count == LOADS) {
    fail("a load", "too many of them");
  }
  load->address = (uint64_t)number();
  load->base = (int)number();
  load->index = (int)number();
  load->shift = (unsigned)number();
  load->offset = (int32_t)number();
  load->width = (unsigned)number();
  load->transfers = (unsigned)number();
}

static void command(char *line)
{
  const char *word = strtok(line, " \n");
  uint32_t first, second;

  if (word == NULL) {
    return;
  }
  if (strcmp(word, "load") == 0) {
    add_load();
    return;
  }
  first = (uint32_t)number();
  if (strcmp(word, "write") == 0) {
    write_bytes(first);
    return;
  }
  second = (uint32_t)number();
  if (strcmp(word, "run") == 0) {
    run(first, second);
  } else if (strcmp(word, "read") == 0) {
    read_bytes(first, second);
  } else if (strcmp(word, "call") == 0) {
    call(first, second, (uint32_t)number());
  } else if (strcmp(word, "count") == 0) {
    count(first, second, (uint32_t)number());
  } else if (strcmp(word, "reads") == 0) {
    reads(first, second, (uint32_t)number());
  } else {
    fail(word, "no such command");
  }
}

/* Flash, RAM and the core's registers; the program in flash; the stack pointer from the vector table. */
static void prepare(int model, const char *image)
{
  static uint8_t flash[FLASH_SIZE];
  FILE *file = fopen(image, "rb");
  size_t size;
  uint32_t stack;

  if (file == NULL) {
    fail(image, "cannot be read");
    return;
  }
  size = fread(flash, 1, sizeof flash, file);
  (void)fclose(file);
  check(uc_open(UC_ARCH_ARM, (uc_mode)(UC_MODE_THUMB | UC_MODE_MCLASS), &core), "starting the emulator");
  check(uc_ctl_set_cpu_model(core, model), "choosing the core");
  check(uc_mem_map(core, 0, FLASH_SIZE, UC_PROT_ALL), "mapping flash");
  check(uc_mem_map(core, RAM, RAM_SIZE, UC_PROT_ALL), "mapping RAM");
  check(uc_mem_map(core, SYSTEM, SYSTEM_SIZE, UC_PROT_ALL), "mapping registers");
  check(uc_mem_write(core, 0, flash, size), "writing flash");
  memcpy(&stack, flash, sizeof stack);
  set(UC_ARM_REG_SP, stack);
}

int main(int argc, char **argv)
{
  static char line[LINE];

  if (argc != 3) {
    fail("counter", "MODEL IMAGE < COMMANDS");
  }
  prepare(atoi(argv[1]), argv[2]);
  while (fgets(line, sizeof line, stdin) != NULL) {
    command(line);
  }
  return 0;
}
