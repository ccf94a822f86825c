/* Reading: frame before file before zeros, short reads and errors named, hostile maps and ranges harmless. */
#include <errno.h>
#include <unistd.h>

#include "check.h"

#define SIZE 512u
#define PAGES 12u

static uint8_t *database, *wal;
static pw_source source;
static uint8_t map[3 * 8];

static void entry(uint8_t *at, uint32_t pgno, uint32_t frame) {
  pw_put_le32(at, pgno);
  pw_put_le32(at + 4, frame);
}

static const uint8_t *expected(uint32_t pgno) {
  static const uint8_t zeros[SIZE];
  if (pgno == 2 || pgno == 3 || pgno == 9) {
    uint32_t frame = pgno == 2 ? 4 : pgno == 3 ? 1 : 3;
    return wal + 32 + (frame - 1) * (24 + SIZE) + 24;
  }
  return pgno <= 8 ? database + (pgno - 1) * SIZE : zeros;
}

static void every_range_is_right(void) {
  pw_fault fault;
  for (uint32_t first = 1; first <= PAGES; first++) {
    for (uint32_t count = 0; count <= PAGES - first + 1; count++) {
      uint8_t *to = noise_bytes((size_t)count * SIZE, first);
      CHECK(pw_read(&source, first, count, to, (size_t)count * SIZE, &fault) == PW_OK);
      for (uint32_t i = 0; i < count; i++) {
        CHECK(memcmp(to + i * SIZE, expected(first + i), SIZE) == 0);
      }
      free(to);
    }
  }
}

static void every_failing_call_is_reported(void) {
  pw_fault fault;
  uint8_t *to = noise_bytes(PAGES * SIZE, 1);
  int n = 0;
  do {
    faults = (pw_test_faults){.fail_at = ++n, .error = EIO, .most = 300};
    pw_status status = pw_read(&source, 1, PAGES, to, PAGES * SIZE, &fault);
    if (faults.calls < n) {
      CHECK(status == PW_OK);
      break;
    }
    CHECK(status == PW_IO && fault.error == EIO && fault.pgno >= 1 && fault.pgno <= PAGES);
  } while (n < 1000);
  CHECK(n > 10 && n < 1000);
  faults = (pw_test_faults){0};
  free(to);
}

static void short_files_are_named(void) {
  pw_fault fault;
  uint8_t to[SIZE * PAGES];
  int cut = file_of(database, 5 * SIZE + 100);
  pw_source shrunk = source;
  shrunk.database = cut;
  CHECK(pw_read(&shrunk, 1, PAGES, to, sizeof to, &fault) == PW_SHORT_READ);
  CHECK(fault.pgno == 6 && fault.offset == 5 * SIZE + 100);
  shrunk.file_size = 5 * SIZE + 100; /* believed to be that short: the rest is zeros */
  CHECK(pw_read(&shrunk, 6, 2, to, sizeof to, &fault) == PW_OK);
  CHECK(memcmp(to, database + 5 * SIZE, 100) == 0);
  for (size_t i = 100; i < 2 * SIZE; i++) {
    CHECK(to[i] == 0);
  }
  int log = file_of(wal, 32 + 2 * (24 + SIZE) + 30); /* frame 3 is cut */
  shrunk = source;
  shrunk.wal = log;
  CHECK(pw_read(&shrunk, 9, 1, to, sizeof to, &fault) == PW_SHORT_READ && fault.pgno == 9);
  close(cut);
  close(log);
}

static void bounds_are_kept(void) {
  pw_fault fault;
  uint8_t to[SIZE];
  static const struct {
    uint32_t first, count;
  } ranges[] = {{0, 1}, {PAGES + 1, 1}, {PAGES, 2}, {2, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}, {1, 2}};
  for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
    CHECK(pw_read(&source, ranges[i].first, ranges[i].count, to, sizeof to, &fault) == PW_ARGUMENT);
  }
  static const uint32_t sizes[] = {0, 1, 256, 513, 1000, 65535, 131072, UINT32_MAX, UINT32_C(0x80000000)};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    pw_source odd = source;
    odd.page_size = sizes[i];
    CHECK(pw_read(&odd, 1, 1, to, sizeof to, &fault) == PW_ARGUMENT);
    CHECK(pw_sums(&odd, 1, 1, to, sizeof to, to, sizeof to, &fault) == PW_ARGUMENT);
  }
  pw_source odd = source;
  odd.wal = -1;
  CHECK(pw_read(&odd, 1, 1, to, sizeof to, &fault) == PW_ARGUMENT);
  odd = source;
  odd.pages = UINT32_MAX;
  CHECK(pw_read(&odd, 1, 1, to, sizeof to, &fault) == PW_ARGUMENT);
  odd = source;
  odd.database = -1;
  CHECK(pw_read(&odd, 1, 1, to, sizeof to, &fault) == PW_IO && fault.error == EBADF && fault.pgno == 1);
}

static void hostile_maps_are_harmless(void) {
  uint64_t state = 99;
  for (int round = 0; round < 2000; round++) {
    uint32_t entries = (uint32_t)(noise(&state) % 6);
    uint8_t *frames = malloc(entries * 8 + 1);
    CHECK(frames != NULL);
    for (uint32_t i = 0; i < entries; i++) { /* unsorted, repeated, frame 0, frames far beyond the file */
      entry(frames + i * 8, (uint32_t)(noise(&state) % 15), (uint32_t)(noise(&state) % 2 ? noise(&state) : noise(&state) % 6));
    }
    pw_source hostile = source;
    hostile.frames = frames;
    hostile.frame_count = entries;
    pw_fault fault;
    uint8_t to[PAGES * SIZE];
    pw_status status = pw_read(&hostile, 1, PAGES, to, sizeof to, &fault);
    CHECK(status == PW_OK || status == PW_SHORT_READ || status == PW_ARGUMENT || status == PW_IO);
    free(frames);
  }
}

static void lock_page_is_never_read(void) {
  pw_fault fault;
  uint8_t *to = noise_bytes(3 * 65536, 3), sums[3 * 8];
  pw_source large = source;
  large.page_size = 65536;
  large.pages = 20000;
  large.frames = NULL;
  large.frame_count = 0;
  large.file_size = UINT64_C(20000) * 65536; /* the file is not that large: a read would be short */
  CHECK(pw_lock_page(65536) == 16385);
  CHECK(pw_read(&large, 16385, 1, to, 65536, &fault) == PW_OK);
  for (size_t i = 0; i < 65536; i++) {
    CHECK(to[i] == 0);
  }
  CHECK(pw_sums(&large, 16385, 1, to, 65536, sums, sizeof sums, &fault) == PW_OK && pw_get_le64(sums) == 0);
  CHECK(pw_read(&large, 16384, 3, to, 3 * 65536, &fault) == PW_SHORT_READ && fault.pgno == 16384);
  uint8_t frames[8];
  entry(frames, 16385, 1); /* not even where a frame claims to hold it */
  large.frames = frames;
  large.frame_count = 1;
  CHECK(pw_read(&large, 16385, 1, to, 65536, &fault) == PW_OK && to[0] == 0);
  free(to);
}

static void sums_are_those_of_the_pages(void) {
  pw_fault fault;
  for (uint32_t room = 1; room <= PAGES + 1; room++) {
    uint8_t *buffer = noise_bytes(room * SIZE, room), *sums = noise_bytes(PAGES * 8, 1);
    CHECK(pw_sums(&source, 1, PAGES, buffer, room * SIZE, sums, PAGES * 8, &fault) == PW_OK);
    for (uint32_t pgno = 1; pgno <= PAGES; pgno++) {
      CHECK(pw_get_le64(sums + (pgno - 1) * 8) == pw_xxh64(expected(pgno), SIZE, pgno));
    }
    CHECK(pw_sums(&source, 1, PAGES, buffer, SIZE - 1, sums, PAGES * 8, &fault) == PW_ARGUMENT);
    CHECK(pw_sums(&source, 1, PAGES, buffer, room * SIZE, sums, PAGES * 8 - 1, &fault) == PW_ARGUMENT);
    CHECK(pw_sums(&source, UINT32_MAX, PAGES, buffer, room * SIZE, sums, PAGES * 8, &fault) == PW_ARGUMENT);
    CHECK(pw_sums(&source, 2, PAGES, buffer, room * SIZE, sums, PAGES * 8, &fault) == PW_ARGUMENT);
    free(buffer);
    free(sums);
  }
  uint8_t sums[8];
  CHECK(pw_buffer_sums(database, SIZE, 500, 1, 1, sums, 8, &fault) == PW_ARGUMENT);
  CHECK(pw_buffer_sums(database, SIZE, SIZE, 0, 1, sums, 8, &fault) == PW_ARGUMENT);
  CHECK(pw_buffer_sums(database, SIZE, SIZE, UINT32_MAX, 2, sums, 8, &fault) == PW_ARGUMENT);
  CHECK(pw_buffer_sums(database, SIZE, SIZE, 1, 2, sums, 8, &fault) == PW_ARGUMENT);
  CHECK(pw_buffer_sums(database, SIZE, SIZE, 1, 1, sums, 7, &fault) == PW_ARGUMENT);
  uint8_t numbers[8], listed[16];
  pw_put_le32(numbers, 9);
  pw_put_le32(numbers + 4, pw_lock_page(SIZE));
  CHECK(pw_listed_sums(database, 2 * SIZE, SIZE, numbers, 8, 2, listed, 16, &fault) == PW_OK);
  CHECK(pw_get_le64(listed) == pw_xxh64(database, SIZE, 9) && pw_get_le64(listed + 8) == 0);
  CHECK(pw_listed_sums(database, 2 * SIZE, 500, numbers, 8, 2, listed, 16, &fault) == PW_ARGUMENT);
  CHECK(pw_listed_sums(database, 2 * SIZE - 1, SIZE, numbers, 8, 2, listed, 16, &fault) == PW_ARGUMENT);
  CHECK(pw_listed_sums(database, 2 * SIZE, SIZE, numbers, 7, 2, listed, 16, &fault) == PW_ARGUMENT);
  CHECK(pw_listed_sums(database, 2 * SIZE, SIZE, numbers, 8, 2, listed, 15, &fault) == PW_ARGUMENT);
  CHECK(pw_listed_sums(database, 0, SIZE, numbers, 0, 0, listed, 0, &fault) == PW_OK);
  for (uint32_t wrong = 0; wrong < 2; wrong++) {
    pw_put_le32(numbers + 4, wrong ? UINT32_MAX : 0);
    CHECK(pw_listed_sums(database, 2 * SIZE, SIZE, numbers, 8, 2, listed, 16, &fault) == PW_ARGUMENT);
  }
}

int main(void) {
  database = noise_bytes(8 * SIZE, 1);
  wal = noise_bytes(32 + 4 * (24 + SIZE), 2);
  entry(map, 2, 4);
  entry(map + 8, 3, 1);
  entry(map + 16, 9, 3);
  source = (pw_source){.database = file_of(database, 8 * SIZE), .wal = file_of(wal, 32 + 4 * (24 + SIZE)),
                       .page_size = SIZE, .pages = PAGES, .file_size = 8 * SIZE, .frames = map, .frame_count = 3};
  every_range_is_right();
  faults = (pw_test_faults){.most = 7, .interrupted = 2};
  every_range_is_right();
  faults = (pw_test_faults){0};
  every_failing_call_is_reported();
  short_files_are_named();
  bounds_are_kept();
  hostile_maps_are_harmless();
  lock_page_is_never_read();
  sums_are_those_of_the_pages();
  close(source.database);
  close(source.wal);
  free(database);
  free(wal);
  return 0;
}
