/* cksumvfs sums: those of a page that was worked out by hand, every flipped bit seen, reads and bounds as elsewhere. */
#include <errno.h>
#include <unistd.h>

#include "check.h"

#define SIZE 512u
#define PAGES 6u

/* Give a page the sum that it should have. */
static void seal(uint8_t *page) {
  uint32_t s1 = 0, s2 = 0;
  for (uint32_t at = 0; at < SIZE - 8; at += 8) {
    s1 += pw_get_le32(page + at) + s2;
    s2 += pw_get_le32(page + at + 4) + s1;
  }
  pw_put_le32(page + SIZE - 8, s1);
  pw_put_le32(page + SIZE - 4, s2);
}

static void a_sum_by_hand(void) {
  /* The last pair of words is 1 and 2 and all others are 0: s1 = 1, s2 = 2 + 1. */
  uint8_t page[SIZE] = {0}, holds = 9, buffer[SIZE];
  pw_fault fault;
  page[SIZE - 16] = 1;
  page[SIZE - 12] = 2;
  page[SIZE - 8] = 1;
  page[SIZE - 4] = 3;
  int file = file_of(page, SIZE);
  pw_source source = {.database = file, .wal = -1, .page_size = SIZE, .pages = 2, .file_size = SIZE};
  CHECK(pw_reserved_sums(&source, 1, 1, buffer, SIZE, &holds, 1, &fault) == PW_OK && holds == 1);
  holds = 9; /* beyond the end of the file there are zeros, whose sum is 0 */
  CHECK(pw_reserved_sums(&source, 2, 1, buffer, SIZE, &holds, 1, &fault) == PW_OK && holds == 1);
  close(file);
}

static void every_flipped_bit_is_seen(void) {
  uint8_t buffer[SIZE], holds = 0;
  pw_fault fault;
  uint8_t *page = noise_bytes(SIZE, 3);
  seal(page);
  for (uint32_t bit = 0; bit < SIZE * 8; bit += 1 + bit % 61) {
    page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    int file = file_of(page, SIZE);
    pw_source source = {.database = file, .wal = -1, .page_size = SIZE, .pages = 1, .file_size = SIZE};
    CHECK(pw_reserved_sums(&source, 1, 1, buffer, SIZE, &holds, 1, &fault) == PW_OK && holds == 0);
    close(file);
    page[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  free(page);
}

static void ranges_and_bounds(void) {
  pw_fault fault;
  uint8_t *pages = noise_bytes(PAGES * SIZE, 5), *holds = noise_bytes(PAGES, 1), *buffer = noise_bytes(2 * SIZE, 1);
  for (uint32_t i = 0; i < PAGES; i += 2) {
    seal(pages + i * SIZE);
  }
  int file = file_of(pages, PAGES * SIZE);
  pw_source source = {.database = file, .wal = -1, .page_size = SIZE, .pages = PAGES, .file_size = PAGES * SIZE};
  for (uint32_t first = 1; first <= PAGES; first++) {
    for (uint32_t count = 0; count <= PAGES - first + 1; count++) {
      CHECK(pw_reserved_sums(&source, first, count, buffer, 2 * SIZE, holds, PAGES, &fault) == PW_OK);
      for (uint32_t i = 0; i < count; i++) {
        CHECK(holds[i] == (first + i) % 2);
      }
    }
  }
  CHECK(pw_reserved_sums(&source, 0, 1, buffer, SIZE, holds, PAGES, &fault) == PW_ARGUMENT);
  CHECK(pw_reserved_sums(&source, PAGES, 2, buffer, SIZE, holds, PAGES, &fault) == PW_ARGUMENT);
  CHECK(pw_reserved_sums(&source, 1, PAGES, buffer, SIZE, holds, PAGES - 1, &fault) == PW_ARGUMENT);
  CHECK(pw_reserved_sums(&source, 1, 1, buffer, SIZE - 1, holds, PAGES, &fault) == PW_ARGUMENT);
  source.page_size = 500;
  CHECK(pw_reserved_sums(&source, 1, 1, buffer, SIZE, holds, PAGES, &fault) == PW_ARGUMENT);
  source.page_size = SIZE;
  int n = 0;
  do {
    faults = (pw_test_faults){.fail_at = ++n, .error = EIO};
    pw_status status = pw_reserved_sums(&source, 1, PAGES, buffer, 2 * SIZE, holds, PAGES, &fault);
    if (faults.calls < n) {
      CHECK(status == PW_OK);
      break;
    }
    CHECK(status == PW_IO && fault.error == EIO && fault.pgno >= 1);
  } while (n < 100);
  CHECK(n > 2 && n < 100);
  faults = (pw_test_faults){0};
  close(file);
  free(pages);
  free(holds);
  free(buffer);
}

int main(void) {
  a_sum_by_hand();
  every_flipped_bit_is_seen();
  ranges_and_bounds();
  return 0;
}
