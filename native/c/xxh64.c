/* XXH64 and the folding of sums. The algorithm is that of xxHash's specification, section "XXH64". */
#include "bytes.h"

#define PRIME1 UINT64_C(0x9E3779B185EBCA87)
#define PRIME2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define PRIME3 UINT64_C(0x165667B19E3779F9)
#define PRIME4 UINT64_C(0x85EBCA77C2B2AE63)
#define PRIME5 UINT64_C(0x27D4EB2F165667C5)

static inline uint64_t rotate(uint64_t n, unsigned bits) { return (n << bits) | (n >> (64 - bits)); }

static inline uint64_t stir(uint64_t lane, uint64_t input) { return rotate(lane + input * PRIME2, 31) * PRIME1; }

static inline uint64_t merge(uint64_t hash, uint64_t lane) { return (hash ^ stir(0, lane)) * PRIME1 + PRIME4; }

uint64_t pw_xxh64(const uint8_t *data, size_t size, uint64_t seed) {
  const uint8_t *at = data;
  size_t left = size;
  uint64_t hash;
  if (left >= 32) {
    uint64_t a = seed + PRIME1 + PRIME2, b = seed + PRIME2, c = seed, d = seed - PRIME1;
    for (; left >= 32; left -= 32, at += 32) {
      a = stir(a, pw_get_le64(at));
      b = stir(b, pw_get_le64(at + 8));
      c = stir(c, pw_get_le64(at + 16));
      d = stir(d, pw_get_le64(at + 24));
    }
    hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
    hash = merge(merge(merge(merge(hash, a), b), c), d);
  } else {
    hash = seed + PRIME5;
  }
  hash += (uint64_t)size;
  for (; left >= 8; left -= 8, at += 8) {
    hash = rotate(hash ^ stir(0, pw_get_le64(at)), 27) * PRIME1 + PRIME4;
  }
  for (; left >= 4; left -= 4, at += 4) {
    hash = rotate(hash ^ (pw_get_le32(at) * PRIME1), 23) * PRIME2 + PRIME3;
  }
  for (; left > 0; left -= 1, at += 1) {
    hash = rotate(hash ^ (*at * PRIME5), 11) * PRIME1;
  }
  hash = (hash ^ (hash >> 33)) * PRIME2;
  hash = (hash ^ (hash >> 29)) * PRIME3;
  return hash ^ (hash >> 32);
}

uint64_t pw_fold(const uint8_t *sums, size_t count) {
  uint64_t folded = 0;
  for (size_t i = 0; i < count; i++) {
    folded ^= pw_get_le64(sums + i * 8);
  }
  return folded;
}
