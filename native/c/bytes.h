/* Numbers in byte buffers, whatever the machine's order and alignment; faults in one line. */
#ifndef PAGEWARDEN_BYTES_H
#define PAGEWARDEN_BYTES_H

#include <string.h>

#include "pagewarden_native.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define PW_LITTLE_ENDIAN 1
#elif defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define PW_LITTLE_ENDIAN 0
#else
#error "the byte order of this machine is not known"
#endif

static inline uint32_t pw_swap32(uint32_t n) {
  return (n << 24) | ((n & 0xff00u) << 8) | ((n >> 8) & 0xff00u) | (n >> 24);
}

static inline uint64_t pw_swap64(uint64_t n) {
  return ((uint64_t)pw_swap32((uint32_t)n) << 32) | pw_swap32((uint32_t)(n >> 32));
}

static inline uint32_t pw_get_le32(const uint8_t *from) {
  uint32_t n;
  memcpy(&n, from, sizeof n);
  return PW_LITTLE_ENDIAN ? n : pw_swap32(n);
}

static inline uint32_t pw_get_be32(const uint8_t *from) {
  uint32_t n;
  memcpy(&n, from, sizeof n);
  return PW_LITTLE_ENDIAN ? pw_swap32(n) : n;
}

static inline void pw_put_be32(uint8_t *to, uint32_t n) {
  n = PW_LITTLE_ENDIAN ? pw_swap32(n) : n;
  memcpy(to, &n, sizeof n);
}

static inline uint64_t pw_get_le64(const uint8_t *from) {
  uint64_t n;
  memcpy(&n, from, sizeof n);
  return PW_LITTLE_ENDIAN ? n : pw_swap64(n);
}

static inline void pw_put_le32(uint8_t *to, uint32_t n) {
  n = PW_LITTLE_ENDIAN ? n : pw_swap32(n);
  memcpy(to, &n, sizeof n);
}

static inline void pw_put_le64(uint8_t *to, uint64_t n) {
  n = PW_LITTLE_ENDIAN ? n : pw_swap64(n);
  memcpy(to, &n, sizeof n);
}

static inline pw_status pw_fail(pw_fault *fault, pw_status status, int error, uint32_t pgno, uint64_t offset) {
  fault->status = (int)status;
  fault->error = error;
  fault->pgno = pgno;
  fault->offset = offset;
  return status;
}

/* The page of the lock bytes at 2^30; it is within the database only if the database is that large. */
static inline uint32_t pw_lock_page(uint32_t page_size) { return UINT32_C(0x40000000) / page_size + 1; }

static inline int pw_page_size_valid(uint32_t page_size) {
  return page_size >= 512 && page_size <= 65536 && (page_size & (page_size - 1)) == 0;
}

/* Whether `size` bytes hold `count` items of `each` bytes. */
static inline int pw_holds(size_t size, uint32_t count, uint32_t each) {
  return (uint64_t)size >= (uint64_t)count * (uint64_t)each;
}

/* Continue the checksum of a WAL over `size` bytes, a multiple of 8, taken as words of either byte order. */
static inline void pw_chain(const uint8_t *data, size_t size, int big_endian, uint32_t sum[2]) {
  uint32_t a = sum[0], b = sum[1];
  if (big_endian) {
    for (size_t i = 0; i < size; i += 8) {
      a += pw_get_be32(data + i) + b;
      b += pw_get_be32(data + i + 4) + a;
    }
  } else {
    for (size_t i = 0; i < size; i += 8) {
      a += pw_get_le32(data + i) + b;
      b += pw_get_le32(data + i + 4) + a;
    }
  }
  sum[0] = a;
  sum[1] = b;
}

/* pread until `size` bytes are there. Returns the bytes read, fewer only at the end of the file, or -1 with errno. */
int64_t pw_pread(int file, uint8_t *to, size_t size, uint64_t offset);

#endif
