/* The chain of frames of a WAL, the map that it makes, and what stands behind its end. seeds: wal
**
** Checksums are hard to guess: the last byte chooses whether all frames up to some number are made valid first. */
#include "common/memory.h"

#define ENTRIES 16

static void put(uint8_t *to, uint32_t n) {
  for (int i = 0; i < 4; i++) {
    to[i] = (uint8_t)(n >> (24 - 8 * i));
  }
}

/* Make the header, and each frame but those that `skip` names, continue the chain. */
static void mend(uint8_t *file, size_t size, uint32_t skip) {
  static const uint32_t magic = 0x377f0682;
  const int big = file[3] & 1;
  put(file, magic | (uint32_t)big);
  put(file + 4, 3007000);
  const uint32_t page_size = 512u << (file[9] % 3);
  put(file + 8, page_size);
  uint32_t running[2] = {0, 0};
  pw_chain(file, 24, big, running);
  put(file + 24, running[0]);
  put(file + 28, running[1]);
  for (size_t at = 32, frame = 0; at + 24 + page_size <= size; at += 24 + page_size, frame++) {
    if (skip & 0x80 && frame == (skip & 7)) {
      continue;
    }
    memcpy(file + at + 8, file + 16, 8);
    pw_chain(file + at, 8, big, running);
    pw_chain(file + at + 24, page_size, big, running);
    put(file + at + 16, running[0]);
    put(file + at + 20, running[1]);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) {
    return 0;
  }
  const uint8_t option = data[--size];
  uint8_t *file = own(data, size);
  if (option & 1 && size >= 32) {
    mend(file, size, (uint32_t)option >> 1 << 1);
  }
  pw_fuzz_files[1] = (pw_fuzz_file){file, size};
  pw_fuzz_fail_at = option & 0x40 ? 5 : 0;
  static uint8_t buffer[3 * (24 + 65536)];
  uint8_t *entries = malloc(4 * ENTRIES * 8), *scratch = malloc(4 * ENTRIES * 8);
  HOLDS(entries != NULL && scratch != NULL);
  pw_wal wal;
  pw_fault fault;
  uint32_t all = 0, used;
  pw_status status = pw_wal_begin(1, option & 2 ? 512 : 0, &wal, &fault);
  while (status == PW_OK && !wal.done) {
    uint32_t room = ENTRIES, at = all + room <= 4 * ENTRIES ? all : 0;
    status = pw_wal_follow(1, option & 4 ? 3 : UINT32_MAX - 1, &wal, buffer, sizeof buffer, entries + (size_t)at * 8, room,
                           &used, &fault);
    if (status == PW_OK) {
      HOLDS(used <= room && wal.commit <= wal.valid);
      all = at + used;
    }
  }
  if (status == PW_OK && pw_page_size_valid(wal.page_size)) {
    /* From some frame on, taken at once: the same chain, as far as there is room. */
    uint8_t numbers[ENTRIES * 4], sizes[ENTRIES * 4], sums[ENTRIES * 8], *pages = NULL;
    const size_t room = option & 8 ? (size_t)ENTRIES * wal.page_size : 0;
    pw_wal from;
    uint32_t taken;
    if (room) {
      pages = malloc(room);
      HOLDS(pages != NULL);
    }
    if (pw_wal_begin(1, 0, &from, &fault) == PW_OK && !from.done) {
      pw_status followed = PW_OK;
      while (followed == PW_OK && !from.done) {
        followed = pw_wal_take(1, wal.valid, &from, buffer, sizeof buffer, numbers, sizes, sums, pages, room, ENTRIES,
                               &taken, &fault);
      }
      HOLDS(followed != PW_OK || (from.valid == wal.valid && from.checksum[0] == wal.checksum[0] &&
                                  from.checksum[1] == wal.checksum[1] && from.commit == wal.commit));
    }
    free(pages);
  }
  pw_wal_map(entries, scratch, all, &used);
  HOLDS(used <= all);
  for (uint32_t i = 1; i < used; i++) {
    HOLDS(pw_get_le32(entries + (size_t)i * 8 - 8) < pw_get_le32(entries + (size_t)i * 8));
  }
  if (status == PW_OK && wal.page_size && pw_page_size_valid(wal.page_size)) {
    pw_behind behind = {.page_size = wal.page_size, .big_endian = wal.big_endian, .at = wal.valid};
    memcpy(behind.salts, wal.salts, 8);
    memcpy(behind.checksum, wal.checksum, sizeof behind.checksum);
    memcpy(behind.other, wal.checksum, sizeof behind.other);
    while (status == PW_OK && !behind.done) {
      uint32_t before = behind.at;
      status = pw_wal_behind(1, &behind, 2, buffer, sizeof buffer, &fault);
      HOLDS(status != PW_OK || behind.done || behind.at > before);
    }
    HOLDS(behind.commits <= behind.at && behind.stranded <= behind.at);
  }
  free(entries);
  free(scratch);
  free(file);
  return 0;
}
