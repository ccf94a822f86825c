/* What a run of frames changes, commit by commit, in the page sums of a database.
**
** Plain commits only, which are nearly all: page numbers ascend and are within the database, which does not become
** smaller, and each page by which it grows has a frame. Whatever else a log may hold is left to the caller. */
#include "bytes.h"

/* Return the frame behind the commit that begins at frame `first`, 0 where it is not plain. */
static uint32_t plain(const uint32_t *numbers, const uint32_t *sizes, uint32_t count, uint32_t first, uint64_t room,
                      const pw_following *state) {
  const uint32_t lock = pw_lock_page(state->page_size);
  uint32_t before = 0, fresh = 0, at = first;
  for (; at < count; at++) {
    if (numbers[at] <= before || numbers[at] == lock) {
      return 0;
    }
    before = numbers[at];
    fresh += before > state->pages;
    if (sizes[at] != 0) {
      break;
    }
  }
  if (at == count || before > sizes[at] || sizes[at] < state->pages || sizes[at] > room) {
    return 0;
  }
  const uint32_t grown = sizes[at] - state->pages - (state->pages < lock && lock <= sizes[at]);
  return fresh == grown ? at + 1 : 0;
}

pw_status pw_follow(const uint32_t *numbers, const uint32_t *sizes, const uint8_t *sums, uint32_t count,
                    pw_following *state, uint64_t *table, uint64_t room, uint64_t *rows, uint64_t *old, uint32_t *used,
                    pw_fault *fault) {
  *fault = (pw_fault){0};
  *used = 0;
  if (!pw_page_size_valid(state->page_size) || state->place > count || state->pages > room || count == UINT32_MAX) {
    return pw_fail(fault, PW_ARGUMENT, 0, 0, 0);
  }
  uint32_t past;
  while (state->place < count && (past = plain(numbers, sizes, count, state->place, room, state)) != 0) {
    const uint32_t entries = past - state->place;
    for (; state->place < past; state->place++) {
      uint64_t *known = table + (numbers[state->place] - 1);
      const uint64_t sum = pw_get_le64(sums + (size_t)state->place * 8);
      old[state->place] = *known;
      state->database_sum ^= sum ^ (numbers[state->place] <= state->pages ? *known : 0);
      *known = sum;
    }
    state->pages = sizes[past - 1];
    rows[(size_t)*used * 3] = state->pages;
    rows[(size_t)*used * 3 + 1] = entries;
    rows[(size_t)*used * 3 + 2] = state->database_sum;
    *used += 1;
  }
  return PW_OK;
}
