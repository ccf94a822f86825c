/* What every unit test here uses: CHECK, seeded noise, temporary files, and a pread that fails on demand.
** The units under test are compiled with -DPW_PREAD=pw_test_pread. */
#ifndef PAGEWARDEN_CHECK_H
#define PAGEWARDEN_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "../../../native/c/bytes.h"

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);   \
      exit(1);                                                                  \
    }                                                                           \
  } while (0)

/* How pw_test_pread behaves; all zeros is the real thing. */
typedef struct {
  size_t most;       /* bytes that one call returns at most, 0: no bound */
  int interrupted;   /* calls that fail with EINTR before each one that works */
  int fail_at;       /* the call, counted from 1, that fails; 0: none */
  int error;         /* its errno */
  int calls;         /* calls so far that were not interrupted */
} pw_test_faults;

extern pw_test_faults faults;

ssize_t pw_test_pread(int file, void *to, size_t size, off_t offset);

/* The next number of a fixed sequence (splitmix64). */
uint64_t noise(uint64_t *state);

/* A new unnamed file with the given bytes; its descriptor. */
int file_of(const uint8_t *data, size_t size);

/* `size` bytes of noise; to be freed. An exact allocation, so that one byte too far is seen. */
uint8_t *noise_bytes(size_t size, uint64_t seed);

#endif
