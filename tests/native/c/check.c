#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64

#include "check.h"

#include <errno.h>
#include <unistd.h>

pw_test_faults faults;

/* This file is compiled with the real pread. */
ssize_t pw_test_pread(int file, void *to, size_t size, off_t offset) {
  static int interruptions;
  if (interruptions < faults.interrupted) {
    interruptions++;
    errno = EINTR;
    return -1;
  }
  interruptions = 0;
  faults.calls++;
  if (faults.fail_at && faults.calls >= faults.fail_at) {
    errno = faults.error;
    return -1;
  }
  if (faults.most && size > faults.most) {
    size = faults.most;
  }
  return pread(file, to, size, offset);
}

uint64_t noise(uint64_t *state) {
  uint64_t n = (*state += UINT64_C(0x9E3779B97F4A7C15));
  n = (n ^ (n >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  n = (n ^ (n >> 27)) * UINT64_C(0x94D049BB133111EB);
  return n ^ (n >> 31);
}

uint8_t *noise_bytes(size_t size, uint64_t seed) {
  uint8_t *data = malloc(size ? size : 1);
  CHECK(data != NULL);
  for (size_t i = 0; i < size; i++) {
    data[i] = (uint8_t)noise(&seed);
  }
  return data;
}

int file_of(const uint8_t *data, size_t size) {
  char name[] = "/tmp/pagewarden-check-XXXXXX";
  int file = mkstemp(name);
  CHECK(file >= 0);
  CHECK(unlink(name) == 0);
  size_t done = 0;
  while (done < size) {
    ssize_t n = write(file, data + done, size - done);
    CHECK(n > 0);
    done += (size_t)n;
  }
  return file;
}
