/* WAL verification: chains in both byte orders, every end, every limit, hostile bytes, failing reads. */
#include <errno.h>
#include <unistd.h>

#include "check.h"

#define FRAMES 9u

static void put_be32(uint8_t *to, uint32_t n) { pw_put_le32(to, pw_swap32(n)); }

/* SQLite's checksum, written once more from its specification. */
static void checksum(const uint8_t *data, size_t size, int big, uint32_t *a, uint32_t *b) {
  for (size_t i = 0; i < size; i += 8) {
    *a += (big ? pw_get_be32(data + i) : pw_get_le32(data + i)) + *b;
    *b += (big ? pw_get_be32(data + i + 4) : pw_get_le32(data + i + 4)) + *a;
  }
}

/* A WAL of FRAMES frames: page 1 + i % 4 each, a commit of 10 + i pages in frames 3, 4 and 7. */
static uint8_t *make(uint32_t page_size, int big, size_t *size) {
  const size_t frame_size = 24 + page_size;
  *size = 32 + FRAMES * frame_size;
  uint8_t *wal = noise_bytes(*size, 5);
  uint32_t a = 0, b = 0;
  put_be32(wal, UINT32_C(0x377f0682) | (uint32_t)big);
  put_be32(wal + 4, 3007000);
  put_be32(wal + 8, page_size);
  put_be32(wal + 12, 6);
  checksum(wal, 24, big, &a, &b);
  put_be32(wal + 24, a);
  put_be32(wal + 28, b);
  for (uint32_t i = 0; i < FRAMES; i++) {
    uint8_t *frame = wal + 32 + i * frame_size;
    put_be32(frame, 1 + i % 4);
    put_be32(frame + 4, i == 2 || i == 3 || i == 6 ? 10 + i : 0);
    memcpy(frame + 8, wal + 16, 8);
    checksum(frame, 8, big, &a, &b);
    checksum(frame + 24, page_size, big, &a, &b);
    put_be32(frame + 16, a);
    put_be32(frame + 20, b);
  }
  return wal;
}

typedef struct {
  pw_wal state;
  pw_status status;
  pw_fault fault;
  uint32_t mapped;
  uint8_t map[FRAMES * 8];
} outcome;

/* Scan with buffers of exactly the given sizes. */
static outcome scan(int file, uint32_t page_size, uint32_t limit, uint32_t buffer_frames, uint32_t room) {
  outcome seen = {0};
  size_t buffer_size = buffer_frames * (24 + (size_t)65536);
  seen.status = pw_wal_begin(file, page_size, &seen.state, &seen.fault);
  if (seen.state.page_size) {
    buffer_size = buffer_frames * (24 + (size_t)seen.state.page_size);
  }
  uint8_t *buffer = noise_bytes(buffer_size, 8), *chunk = noise_bytes(room * 8, 9), *all = noise_bytes(FRAMES * 8, 1);
  uint32_t used, got = 0;
  while (seen.status == PW_OK && !seen.state.done) {
    seen.status = pw_wal_follow(file, limit, &seen.state, buffer, buffer_size, chunk, room, &used, &seen.fault);
    CHECK(used <= room && got + used <= FRAMES);
    memcpy(all + got * 8, chunk, used * 8);
    got += used;
  }
  if (seen.status == PW_OK) {
    CHECK(got == seen.state.valid && seen.state.commit <= got);
    CHECK(pw_wal_follow(file, limit, &seen.state, buffer, buffer_size, chunk, room, &used, &seen.fault) == PW_OK);
    CHECK(used == 0); /* once done, for ever done */
    uint8_t *scratch = noise_bytes(FRAMES * 8, 2);
    pw_wal_map(all, scratch, seen.state.commit, &seen.mapped);
    memcpy(seen.map, all, seen.mapped * 8);
    free(scratch);
  }
  free(buffer);
  free(chunk);
  free(all);
  return seen;
}

static outcome scan_bytes(const uint8_t *wal, size_t size, uint32_t page_size, uint32_t limit) {
  int file = file_of(wal, size);
  outcome seen = scan(file, page_size, limit, 2, 4);
  close(file);
  return seen;
}

static void chains_are_followed(uint32_t page_size, int big) {
  size_t size;
  uint8_t *wal = make(page_size, big, &size);
  int file = file_of(wal, size);
  for (uint32_t limit = 0; limit <= FRAMES + 1; limit++) {
    for (uint32_t room = 1; room <= FRAMES + 1; room += 3) {
      for (uint32_t frames = 1; frames <= FRAMES + 1; frames += 4) {
        outcome seen = scan(file, limit % 2 ? page_size : 0, limit, frames, room);
        uint32_t valid = limit < FRAMES ? limit : FRAMES;
        uint32_t commit = valid >= 7 ? 7 : valid >= 4 ? 4 : valid >= 3 ? 3 : 0;
        CHECK(seen.status == PW_OK && seen.state.valid == valid && seen.state.commit == commit);
        CHECK(seen.state.end == (limit > FRAMES ? PW_WAL_END : PW_WAL_LIMIT));
        CHECK(seen.state.commit_pages == (commit ? 10 + commit - 1 : 0) && seen.state.big_endian == big);
        CHECK(seen.state.sequence == 6 && memcmp(seen.state.salts, wal + 16, 8) == 0);
        if (commit) {
          const uint8_t *frame = wal + 32 + (commit - 1) * (24 + (size_t)page_size);
          CHECK(seen.state.commit_checksum[0] == pw_get_be32(frame + 16));
          CHECK(seen.state.commit_checksum[1] == pw_get_be32(frame + 20));
        }
        CHECK(seen.mapped == (commit < 4 ? commit : 4));
        for (uint32_t i = 0; i < seen.mapped; i++) {
          uint32_t pgno = i + 1, last = commit - (commit - pgno) % 4;
          CHECK(pw_get_le32(seen.map + i * 8) == pgno && pw_get_le32(seen.map + i * 8 + 4) == last);
        }
      }
    }
  }
  CHECK(scan(file, page_size == 512 ? 1024 : 512, UINT32_MAX, 1, 1).state.end == PW_WAL_PAGE_SIZE);
  close(file);
  free(wal);
}

/* From every frame on, in pieces of `room` frames, with and without the pages: what stands there. */
static void what_stands_in_a_chain_is_kept(uint32_t page_size, int big) {
  size_t size;
  uint8_t *wal = make(page_size, big, &size);
  const size_t frame_size = 24 + (size_t)page_size;
  int file = file_of(wal, size);
  for (uint32_t from = 0; from <= FRAMES; from++) {
    for (uint32_t room = 1; room <= FRAMES; room += 3) {
      pw_wal state = {.page_size = page_size, .big_endian = big, .valid = from};
      const uint8_t *before = from ? wal + 32 + (from - 1) * frame_size + 16 : wal + 24;
      pw_fault fault;
      uint32_t used = 1, at = from;
      memcpy(state.salts, wal + 16, 8);
      state.checksum[0] = pw_get_be32(before);
      state.checksum[1] = pw_get_be32(before + 4);
      uint8_t *buffer = noise_bytes(2 * frame_size, 3), *pages = noise_bytes((size_t)room * page_size, 4);
      uint8_t *numbers = noise_bytes(room * 4, 5), *sizes = noise_bytes(room * 4, 6), *sums = noise_bytes(room * 8, 7);
      CHECK(pw_wal_take(file, FRAMES, &state, buffer, 2 * frame_size, numbers, sizes, sums, pages,
                        (size_t)room * page_size - 1, room, &used, &fault) == PW_ARGUMENT);
      while (!state.done) {
        uint8_t *kept = room % 2 ? pages : NULL;
        CHECK(pw_wal_take(file, FRAMES, &state, buffer, 2 * frame_size, numbers, sizes, sums, kept,
                          (size_t)room * page_size, room, &used, &fault) == PW_OK);
        for (uint32_t i = 0; i < used; i++, at++) {
          const uint8_t *frame = wal + 32 + at * frame_size;
          CHECK(pw_get_le32(numbers + i * 4) == pw_get_be32(frame));
          CHECK(pw_get_le32(sizes + i * 4) == pw_get_be32(frame + 4));
          CHECK(pw_get_le64(sums + i * 8) == pw_xxh64(frame + 24, page_size, pw_get_be32(frame)));
          CHECK(kept == NULL || memcmp(kept + (size_t)i * page_size, frame + 24, page_size) == 0);
        }
      }
      CHECK(at == FRAMES && state.valid == FRAMES && state.end == PW_WAL_LIMIT);
      CHECK(state.checksum[0] == pw_get_be32(wal + size - frame_size + 16));
      free(buffer);
      free(pages);
      free(numbers);
      free(sizes);
      free(sums);
    }
  }
  close(file);
  free(wal);
}

static void every_flipped_bit_ends_the_chain(int big) {
  size_t size;
  uint8_t *wal = make(512, big, &size);
  for (size_t at = 0; at < size; at += at < 32 + 24 ? 1 : 29) {
    wal[at] ^= (uint8_t)(1u << at % 8);
    outcome seen = scan_bytes(wal, size, 0, UINT32_MAX);
    wal[at] ^= (uint8_t)(1u << at % 8);
    CHECK(seen.status == PW_OK);
    if (at < 32) {
      CHECK(seen.state.end == PW_WAL_BAD_HEADER && seen.state.valid == 0 && seen.state.page_size == 0);
    } else {
      size_t frame = (at - 32) / 536, within = (at - 32) % 536;
      CHECK(seen.state.valid == frame);
      CHECK(seen.state.end == (within >= 8 && within < 16 ? PW_WAL_SALTS : PW_WAL_CHECKSUM));
    }
  }
  put_be32(wal + 32 + 536, 0);
  CHECK(scan_bytes(wal, size, 0, UINT32_MAX).state.end == PW_WAL_PGNO);
  free(wal);
}

static void every_length_is_judged(void) {
  size_t size;
  uint8_t *wal = make(512, 0, &size);
  for (size_t length = 0; length <= size; length += length < 600 ? 1 : 67) {
    outcome seen = scan_bytes(wal, length, 512, UINT32_MAX);
    CHECK(seen.status == PW_OK);
    if (length < 32) {
      CHECK(seen.state.end == PW_WAL_NO_HEADER);
    } else {
      CHECK(seen.state.valid == (length - 32) / 536);
      CHECK(seen.state.end == ((length - 32) % 536 ? PW_WAL_PARTIAL : PW_WAL_END));
    }
  }
  free(wal);
}

static void failing_reads_are_reported(void) {
  size_t size;
  uint8_t *wal = make(512, 0, &size);
  int file = file_of(wal, size), n = 0;
  faults = (pw_test_faults){.most = 100, .interrupted = 1};
  CHECK(scan(file, 512, UINT32_MAX, 3, 5).state.valid == FRAMES);
  for (;;) {
    faults = (pw_test_faults){.fail_at = ++n, .error = EIO, .most = 200};
    outcome seen = scan(file, 512, UINT32_MAX, 3, 5);
    if (faults.calls < n) {
      CHECK(seen.status == PW_OK && seen.state.valid == FRAMES);
      break;
    }
    CHECK(seen.status == PW_IO && seen.fault.error == EIO);
  }
  faults = (pw_test_faults){0};
  CHECK(n > 10);
  close(file);
  pw_wal state;
  pw_fault fault;
  CHECK(pw_wal_begin(-1, 512, &state, &fault) == PW_IO && fault.error == EBADF);
  free(wal);
}

static void hostile_states_and_maps_are_harmless(void) {
  uint8_t buffer[2048], entries[8];
  uint32_t used;
  pw_fault fault;
  pw_wal state = {.page_size = 12345}; /* never from pw_wal_begin */
  CHECK(pw_wal_follow(-1, 1, &state, buffer, sizeof buffer, entries, 1, &used, &fault) == PW_ARGUMENT);
  state.page_size = 65536; /* the buffer is too small */
  CHECK(pw_wal_follow(-1, 1, &state, buffer, sizeof buffer, entries, 1, &used, &fault) == PW_ARGUMENT);
  uint64_t seed = 4;
  for (uint32_t count = 0; count < 300; count += 7) {
    uint8_t *all = noise_bytes(count * 8, count), *scratch = noise_bytes(count * 8, 1);
    uint32_t pages[300] = {0}, distinct = 0;
    for (uint32_t i = 0; i < count; i++) {
      uint32_t pgno = (uint32_t)(noise(&seed) % 50) * UINT32_C(0x01010101) + (uint32_t)(noise(&seed) % 2);
      pw_put_le32(all + i * 8, pgno);
      pw_put_le32(all + i * 8 + 4, i + 1);
      pages[i] = pgno;
    }
    for (uint32_t i = 0; i < count; i++) {
      uint32_t later = i + 1;
      while (later < count && pages[later] != pages[i]) {
        later++;
      }
      distinct += later == count;
    }
    pw_wal_map(all, scratch, count, &used);
    CHECK(used == distinct);
    for (uint32_t i = 0; i < used; i++) {
      uint32_t pgno = pw_get_le32(all + i * 8), frame = pw_get_le32(all + i * 8 + 4);
      CHECK(i == 0 || pw_get_le32(all + i * 8 - 8) < pgno);
      CHECK(pages[frame - 1] == pgno);
      for (uint32_t later = frame; later < count; later++) {
        CHECK(pages[later] != pgno);
      }
    }
    free(all);
    free(scratch);
  }
}

int main(void) {
  for (int big = 0; big < 2; big++) {
    chains_are_followed(512, big);
    chains_are_followed(4096, big);
    chains_are_followed(65536, big);
    every_flipped_bit_ends_the_chain(big);
    what_stands_in_a_chain_is_kept(512, big);
    what_stands_in_a_chain_is_kept(4096, big);
  }
  every_length_is_judged();
  failing_reads_are_reported();
  hostile_states_and_maps_are_harmless();
  return 0;
}
