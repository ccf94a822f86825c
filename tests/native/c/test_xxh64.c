/* XXH64 gives the published values, reads not one byte too many, and the fold is an XOR. */
#include "check.h"

#define PRIME32 UINT64_C(2654435761)
#define PRIME64 UINT64_C(11400714785074694797)

/* The sanity vectors of xxHash's own xsum_sanity_check.c: length, seed, value. */
static const struct {
  size_t length;
  uint64_t seed;
  uint64_t value;
} vectors[] = {
    {0, 0, UINT64_C(0xEF46DB3751D8E999)},         {0, PRIME32, UINT64_C(0xAC75FDA2929B17EF)},
    {1, 0, UINT64_C(0xE934A84ADB052768)},         {1, PRIME32, UINT64_C(0x5014607643A9B4C3)},
    {4, 0, UINT64_C(0x9136A0DCA57457EE)},         {14, 0, UINT64_C(0x8282DCC4994E35C8)},
    {14, PRIME32, UINT64_C(0xC3BD6BF63DEB6DF0)},  {222, 0, UINT64_C(0xB641AE8CB691C174)},
    {222, PRIME32, UINT64_C(0x20CB8AB7AE10C14A)},
};

int main(void) {
  uint8_t sanity[222];
  uint64_t state = PRIME32;
  for (size_t i = 0; i < sizeof sanity; i++) {
    sanity[i] = (uint8_t)(state >> 56);
    state *= PRIME64;
  }
  for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
    /* exact, unaligned copies: ASan sees a byte too far, UBSan a misaligned load */
    for (size_t shift = 0; shift < 8; shift++) {
      uint8_t *copy = malloc(vectors[i].length + shift + 1);
      CHECK(copy != NULL);
      memcpy(copy + shift, sanity, vectors[i].length);
      CHECK(pw_xxh64(copy + shift, vectors[i].length, vectors[i].seed) == vectors[i].value);
      free(copy);
    }
  }
  for (size_t length = 0; length < 200; length++) {
    uint8_t *exact = noise_bytes(length, length);
    uint64_t before = pw_xxh64(exact, length, 7);
    CHECK(before == pw_xxh64(exact, length, 7));
    CHECK(before != pw_xxh64(exact, length, 8));
    if (length) {
      exact[length - 1] ^= 1;
      CHECK(before != pw_xxh64(exact, length, 7));
    }
    free(exact);
  }
  uint8_t sums[24];
  pw_put_le64(sums, 5);
  pw_put_le64(sums + 8, UINT64_C(0xFF00000000000000));
  pw_put_le64(sums + 16, 1);
  CHECK(pw_fold(sums, 0) == 0);
  CHECK(pw_fold(sums, 3) == (UINT64_C(0xFF00000000000000) | 4));

  CHECK(pw_swap32(UINT32_C(0x01020304)) == UINT32_C(0x04030201));
  CHECK(pw_swap64(UINT64_C(0x0102030405060708)) == UINT64_C(0x0807060504030201));
  CHECK(sums[15] == 0xFF && pw_get_le64(sums + 8) >> 56 == 0xFF);
  CHECK(pw_get_be32(sums + 12) == 0xFF);
  return 0;
}
