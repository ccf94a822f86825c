/* Plain commits in a table of sums: exact buffers, so that one number too far is seen; hostile numbers. */
#include "check.h"

#define ROOM 40u

typedef struct {
  uint32_t numbers[8], sizes[8];
  uint32_t count;
} run;

static pw_following follow(const run *given, uint32_t pages, uint32_t *used) {
  uint32_t *numbers = malloc(given->count * 4 + 1), *sizes = malloc(given->count * 4 + 1);
  uint8_t *sums = noise_bytes(given->count * 8, 1);
  uint64_t *table = calloc(ROOM, 8), *rows = calloc(given->count * 3 + 1, 8), *old = calloc(given->count + 1, 8);
  CHECK(numbers && sizes && table && rows && old);
  memcpy(numbers, given->numbers, given->count * 4);
  memcpy(sizes, given->sizes, given->count * 4);
  pw_following state = {.page_size = 512, .pages = pages};
  pw_fault fault;
  CHECK(pw_follow(numbers, sizes, sums, given->count, &state, table, ROOM, rows, old, used, &fault) == PW_OK);
  uint64_t total = 0;
  for (uint32_t i = 0; i < ROOM; i++) {
    total ^= table[i];
  }
  CHECK(total == state.database_sum && *used <= given->count && state.place <= given->count);
  CHECK(*used == 0 || rows[(*used - 1) * 3 + 2] == total);
  free(numbers);
  free(sizes);
  free(sums);
  free(table);
  free(rows);
  free(old);
  return state;
}

int main(void) {
  uint32_t used;
  run plain = {{1, 5, 11, 2, 12}, {0, 0, 11, 11, 12}, 5};
  pw_following state = follow(&plain, 10, &used);
  CHECK(used == 3 && state.place == 5 && state.pages == 12);
  run late = {{1, 5}, {10, 0}, 2};
  CHECK(follow(&late, 10, &used).place == 1 && used == 1);
  const uint32_t odd[] = {0, 11, ROOM, ROOM + 1, UINT32_MAX - 1, UINT32_MAX, 0x40000000 / 512 + 1};
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
    run one = {{3, odd[i]}, {10, 10}, 2};
    CHECK(follow(&one, 10, &used).place == 1);
    run size = {{3, 4}, {10, odd[i] == 11 ? 9 : odd[i]}, 2};
    CHECK(follow(&size, 10, &used).place == 1);
  }
  uint64_t seed = 7;
  for (int n = 0; n < 20000; n++) {
    run any = {.count = 8};
    for (uint32_t i = 0; i < 8; i++) {
      any.numbers[i] = (uint32_t)(noise(&seed) % 14);
      any.sizes[i] = noise(&seed) % 2 ? 0 : (uint32_t)(9 + noise(&seed) % 5);
    }
    follow(&any, 10, &used);
  }
  pw_fault fault;
  pw_following wrong = {.page_size = 512, .pages = 5, .place = 1};
  CHECK(pw_follow(NULL, NULL, NULL, 0, &wrong, NULL, 9, NULL, NULL, &used, &fault) == PW_ARGUMENT);
  wrong.place = 0;
  CHECK(pw_follow(NULL, NULL, NULL, 0, &wrong, NULL, 4, NULL, NULL, &used, &fault) == PW_ARGUMENT);
  wrong.page_size = 513;
  CHECK(pw_follow(NULL, NULL, NULL, 0, &wrong, NULL, 9, NULL, NULL, &used, &fault) == PW_ARGUMENT);
  return 0;
}
