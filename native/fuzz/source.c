/* Reading the pages of one commit: hostile maps, cut files; sums and the checksums of cksumvfs. seeds: wal
**
** The input is the WAL; its last bytes are the map. */
#include "common/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 16) {
    return 0;
  }
  const uint32_t page_size = 512u << (data[0] % 8);
  const uint32_t entries = data[1] % 8u;
  if (size < 16 + (size_t)entries * 8) {
    return 0;
  }
  uint8_t *map = own(data + size - (size_t)entries * 8, (size_t)entries * 8), *file = own(data, size);
  pw_fuzz_files[0] = pw_fuzz_files[1] = (pw_fuzz_file){file, size};
  pw_fuzz_fail_at = data[2] & 1 ? data[3] % 8u + 1 : 0;
  pw_source source = {.database = 0, .wal = data[4] & 1 ? 1 : -1, .page_size = page_size, .pages = pw_get_le32(data + 4)};
  source.file_size = data[2] & 2 ? UINT64_MAX / 4 : size;
  source.frames = map;
  source.frame_count = entries;
  const uint32_t first = data[5] & 1 ? pw_get_le32(data + 8) : pw_get_le32(data + 8) % 8, count = data[12] % 6;
  uint8_t *to = malloc((size_t)count * page_size + 1), *sums = malloc((size_t)count * 8 + 1);
  HOLDS(to != NULL && sums != NULL);
  pw_fault fault;
  pw_status status = pw_read(&source, first, count, to, (size_t)count * page_size, &fault);
  HOLDS((int)status == fault.status);
  pw_sums(&source, first, count, to, (size_t)count * page_size, sums, (size_t)count * 8, &fault);
  pw_reserved_sums(&source, first, count, to, (size_t)count * page_size, sums, count, &fault);
  uint8_t part[4];
  pw_read_part(&source, first, pw_get_le32(data + 12), 4, part, &fault);
  free(to);
  free(sums);
  free(map);
  free(file);
  return 0;
}
