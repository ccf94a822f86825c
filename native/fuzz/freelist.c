/* The freelist alone, in pages of 512 bytes. seeds: noise
**
** The first 8 bytes are the header's first trunk and count; trunks and leaves follow as they come. */
#include "common/memory.h"

#define SIZE 512u
#define ROOM 128

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 9 + SIZE) {
    return 0;
  }
  uint8_t *file = own(data + 9, size - 9);
  const uint32_t pages = (uint32_t)((size - 9) / SIZE);
  pw_fuzz_files[0] = (pw_fuzz_file){file, size - 9};
  pw_fuzz_fail_at = 0;
  uint8_t *used = calloc(pages / 8 + 1, 1), *work = malloc(pw_walk_work(SIZE));
  HOLDS(used != NULL && work != NULL);
  pw_walk walk = {.page_size = SIZE, .usable = SIZE - (data[8] & 31), .pages = pages, .encoding = 1, .used = used};
  walk.pointer_map = data[8] >> 7;
  pw_source source = {.wal = -1, .page_size = SIZE, .pages = pages, .file_size = size - 9};
  static pw_flaw flaws[ROOM];
  pw_parts parts = {0};
  pw_parts_freelist(&parts, pw_get_be32(data) % (pages + 3), pw_get_be32(data + 4));
  uint32_t looked = 0;
  while (parts.count) {
    pw_seen seen;
    pw_fault fault;
    HOLDS(pw_walk_step(&walk, &source, &parts, work, pw_walk_work(SIZE), 1, flaws, ROOM, &seen, &fault) == PW_OK);
    looked += seen.pages;
    HOLDS(looked <= pages && seen.flaws <= ROOM);
  }
  free(used);
  free(work);
  free(file);
  return 0;
}
