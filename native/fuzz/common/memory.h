/* What every fuzz target uses: files in memory, and a way to take numbers off the input.
**
** A target is one file here, <name>.c, which defines LLVMFuzzerTestOneInput and names in a comment of its first lines
** which seeds it begins with: "seeds: database", "seeds: wal", "seeds: frame" or "seeds: noise" (native/tools/seeds.py).
** The units are compiled with -DPW_PREAD=pw_fuzz_pread: descriptor 0 is the database, 1 the WAL. */
#ifndef PAGEWARDEN_FUZZ_H
#define PAGEWARDEN_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "../../c/walk.h"

typedef struct {
  const uint8_t *data;
  size_t size;
} pw_fuzz_file;

extern pw_fuzz_file pw_fuzz_files[2];

/* Every call from this one on fails with EIO; 0: none does. */
extern unsigned pw_fuzz_fail_at;

ssize_t pw_fuzz_pread(int file, void *to, size_t size, off_t offset);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                \
    }                                                                         \
  } while (0)

/* The input's bytes in an allocation of their own size, so that one byte too far is seen. */
static inline uint8_t *own(const uint8_t *data, size_t size) {
  uint8_t *copy = malloc(size ? size : 1);
  HOLDS(copy != NULL);
  memcpy(copy, data, size);
  return copy;
}

#endif
