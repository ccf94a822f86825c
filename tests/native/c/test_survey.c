/* What stands behind the end of a WAL's chain: broken frames in every place, both byte orders, other generations,
** a damaged header, every length, hostile states, failing reads. */
#include <errno.h>
#include <unistd.h>

#include "check.h"

#define FRAMES 9u
#define PAGE 512u
#define FRAME (24u + PAGE)
#define SIZE (32u + FRAMES * FRAME)

static void put_be32(uint8_t *to, uint32_t n) { pw_put_le32(to, pw_swap32(n)); }

/* Frames first ... FRAMES-1 of one chain from `sum` on; commits in frames 3, 4 and 7, counted from 1. */
static void chain_from(uint8_t *wal, uint32_t first, int big, uint32_t sum[2]) {
  for (uint32_t i = first; i < FRAMES; i++) {
    uint8_t *frame = wal + 32 + i * FRAME;
    put_be32(frame, 1 + i % 4);
    put_be32(frame + 4, i == 2 || i == 3 || i == 6 ? 10 + i : 0);
    memcpy(frame + 8, wal + 16, 8);
    pw_chain(frame, 8, big, sum);
    pw_chain(frame + 24, PAGE, big, sum);
    put_be32(frame + 16, sum[0]);
    put_be32(frame + 20, sum[1]);
  }
}

static uint8_t *make(int big) {
  uint8_t *wal = noise_bytes(SIZE, 5);
  uint32_t sum[2] = {0, 0};
  put_be32(wal, UINT32_C(0x377f0682) | (uint32_t)big);
  put_be32(wal + 4, 3007000);
  put_be32(wal + 8, PAGE);
  pw_chain(wal, 24, big, sum);
  put_be32(wal + 24, sum[0]);
  put_be32(wal + 28, sum[1]);
  chain_from(wal, 0, big, sum);
  return wal;
}

/* Look behind frame `at`, `most` frames in each call. */
static pw_behind look(const uint8_t *wal, size_t size, uint32_t at, int big, uint32_t most) {
  pw_behind state = {.page_size = PAGE, .big_endian = big, .at = at};
  pw_fault fault;
  uint8_t *page = noise_bytes(PAGE, 3);
  const uint8_t *stored = at ? wal + 32 + (at - 1) * FRAME + 16 : wal + 24;
  memcpy(state.salts, wal + 16, 8);
  for (int i = 0; i < 2; i++) {
    state.checksum[i] = state.other[i] = pw_get_be32(stored + i * 4);
  }
  int file = file_of(wal, size);
  while (!state.done) {
    uint32_t before = state.at;
    CHECK(pw_wal_behind(file, &state, most, page, PAGE, &fault) == PW_OK);
    CHECK(state.at - before <= most && (state.done || state.at - before == most));
  }
  close(file);
  free(page);
  return state;
}

static const uint32_t marks[] = {3, 4, 7};

/* Commits in frames from ... FRAMES. */
static uint32_t commits_from(uint32_t from) {
  uint32_t count = 0;
  for (size_t i = 0; i < 3; i++) {
    count += marks[i] >= from;
  }
  return count;
}

static void one_broken_frame_is_followed_by_all_others(int big) {
  uint8_t *wal = make(big);
  for (uint32_t broken = 1; broken <= FRAMES; broken++) {
    static const size_t places[] = {1, 9, 17, 24, 100, FRAME - 1}; /* pgno, salts, checksum, page */
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
      uint8_t *byte = wal + 32 + (broken - 1) * FRAME + places[i];
      *byte ^= 0x40;
      pw_behind seen = look(wal, SIZE, broken - 1, big, 1 + broken % 3);
      *byte ^= 0x40;
      int last = broken == FRAMES;
      CHECK(seen.at == FRAMES && seen.stranded == FRAMES - broken);
      CHECK(seen.first == (last ? 0 : broken + 1) && seen.commits == (last ? 0 : commits_from(broken)));
      CHECK(seen.last_commit == (seen.commits ? 7u : 0u) && seen.older == (places[i] == 9));
    }
  }
  free(wal);
}

static void two_broken_frames_hide_each_other(int big) {
  uint8_t *wal = make(big);
  wal[32 + 2 * FRAME + 200] ^= 1; /* frame 3: a commit */
  wal[32 + 3 * FRAME + 200] ^= 1; /* frame 4: a commit that its successor proves */
  pw_behind seen = look(wal, SIZE, 2, big, 100);
  CHECK(seen.stranded == 5 && seen.first == 5 && seen.commits == 2 && seen.last_commit == 7);
  free(wal);
}

static void what_is_legal_proves_no_commit(int big) {
  uint8_t *wal = make(big), *other = make(big);
  uint32_t sum[2] = {0, 0};
  CHECK(look(wal, SIZE, FRAMES, big, 10).stranded == 0);
  /* Another generation stands behind frame 2. */
  memset(other + 16, 7, 8);
  pw_chain(other, 24, big, sum);
  chain_from(other, 0, big, sum);
  memcpy(other, wal, 32 + 2 * FRAME);
  pw_behind seen = look(other, SIZE, 2, big, 10);
  CHECK(seen.stranded == 0 && seen.commits == 0 && seen.older == FRAMES - 2);
  /* Frames of a transaction that was rolled back: they continue each other, and commit nothing. */
  for (uint32_t i = 7; i < FRAMES; i++) {
    put_be32(wal + 32 + i * FRAME + 4, 0);
  }
  wal[32 + 7 * FRAME + 300] ^= 1;
  seen = look(wal, SIZE, 7, big, 10);
  CHECK(seen.stranded == 1 && seen.commits == 0 && seen.last_commit == 0 && seen.older == 0);
  /* Zeros are no generation. */
  memset(wal + 32 + 3 * FRAME, 0, SIZE - 32 - 3 * FRAME);
  seen = look(wal, SIZE, 3, big, 10);
  CHECK(seen.stranded == 0 && seen.older == 0 && seen.at == FRAMES);
  free(wal);
  free(other);
}

/* Frames 3 and 4, commits, without salts and checksums, and from `next` on a chain that continues frame 2's. */
static void frames_that_were_never_summed_up_are_told(int big) {
  uint8_t *wal = make(big);
  uint32_t sum[2] = {pw_get_be32(wal + 32 + FRAME + 16), pw_get_be32(wal + 32 + FRAME + 20)};
  for (uint32_t i = 2; i < 4; i++) {
    memset(wal + 32 + i * FRAME + 8, 0, 16);
  }
  pw_behind seen = look(wal, 32 + 4 * FRAME, 2, big, 10);
  CHECK(seen.bare == 2 && seen.bare_commit == 4 && seen.commits == 0 && seen.stranded == 0 && seen.older == 0);
  seen = look(wal, SIZE, 2, big, 10); /* what follows continues frame 4 as it might have been: nothing is proved */
  CHECK(seen.bare == 2 && seen.stranded == FRAMES - 5 && seen.commits == 1);
  chain_from(wal, 4, big, sum);
  seen = look(wal, SIZE, 2, big, 1);
  CHECK(seen.stranded == FRAMES - 4 && seen.first == 5 && seen.commits == 3 && seen.last_commit == 7);
  /* Elsewhere they are no frames right behind the chain. */
  memset(wal + 32 + 6 * FRAME + 8, 0, 16);
  seen = look(wal, SIZE, 4, big, 10);
  CHECK(seen.bare == 0 && seen.bare_commit == 0);
  free(wal);
}

static void a_page_zero_continues_nothing(int big) {
  uint8_t *wal = make(big);
  uint32_t sum[2];
  uint8_t *frame = wal + 32 + 5 * FRAME;
  for (int i = 0; i < 2; i++) {
    sum[i] = pw_get_be32(frame - FRAME + 16 + i * 4);
  }
  put_be32(frame, 0);
  pw_chain(frame, 8, big, sum);
  pw_chain(frame + 24, PAGE, big, sum);
  put_be32(frame + 16, sum[0]);
  put_be32(frame + 20, sum[1]);
  wal[32 + 3 * FRAME + 400] ^= 1;
  pw_behind seen = look(wal, SIZE, 3, big, 100);
  CHECK(seen.first == 5 && seen.stranded == 3); /* frames 5, 8 and 9 */
  free(wal);
}

static void every_length_is_judged(void) {
  uint8_t *wal = make(0);
  for (size_t length = 0; length <= SIZE; length += length < 600 ? 1 : 67) {
    CHECK(look(wal, length, 0, 0, 4).at == (length < 32 ? 0 : (length - 32) / FRAME));
  }
  free(wal);
}

static void noise_is_harmless(void) {
  for (uint64_t seed = 0; seed < 50; seed++) {
    uint8_t *wal = noise_bytes(SIZE, seed);
    for (uint32_t i = 0; i < FRAMES; i++) {
      memcpy(wal + 32 + i * FRAME + 8, wal + 16, 8);
    }
    pw_behind seen = look(wal, SIZE, 0, (int)(seed % 2), 3);
    CHECK(seen.at == FRAMES && seen.stranded == 0 && seen.commits == 0);
    free(wal);
  }
}

static void bad_arguments_and_failing_reads_are_reported(void) {
  uint8_t page[PAGE], *wal = make(0);
  pw_fault fault;
  pw_behind state = {.page_size = 12345};
  CHECK(pw_wal_behind(-1, &state, 1, page, sizeof page, &fault) == PW_ARGUMENT);
  state.page_size = 1024; /* the buffer is too small */
  CHECK(pw_wal_behind(-1, &state, 1, page, sizeof page, &fault) == PW_ARGUMENT);
  state = (pw_behind){.page_size = PAGE};
  CHECK(pw_wal_behind(-1, &state, 1, page, sizeof page, &fault) == PW_IO && fault.error == EBADF);
  state.at = UINT32_MAX; /* no frame has a higher number */
  CHECK(pw_wal_behind(-1, &state, 1, page, sizeof page, &fault) == PW_OK && state.done);
  int file = file_of(wal, SIZE), n = 0;
  for (;;) {
    faults = (pw_test_faults){.fail_at = ++n, .error = EIO, .most = 200};
    state = (pw_behind){.page_size = PAGE};
    memcpy(state.salts, wal + 16, 8);
    pw_status status = pw_wal_behind(file, &state, 100, page, sizeof page, &fault);
    if (faults.calls < n) {
      CHECK(status == PW_OK && state.at == FRAMES);
      break;
    }
    CHECK(status == PW_IO && fault.error == EIO);
  }
  faults = (pw_test_faults){0};
  CHECK(n > 10);
  close(file);
  free(wal);
}

int main(void) {
  for (int big = 0; big < 2; big++) {
    one_broken_frame_is_followed_by_all_others(big);
    two_broken_frames_hide_each_other(big);
    what_is_legal_proves_no_commit(big);
    frames_that_were_never_summed_up_are_told(big);
    a_page_zero_continues_nothing(big);
  }
  every_length_is_judged();
  noise_is_harmless();
  bad_arguments_and_failing_reads_are_reported();
  return 0;
}
