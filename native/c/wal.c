/* Verification of a write-ahead log. Format: https://www.sqlite.org/fileformat2.html#walformat
**
** header, 32 bytes, big-endian            frame, 24 bytes of header and one page, big-endian
**   0  magic 0x377f0682, |1: checksums      0  pgno
**      over big-endian words                4  for a commit the size of the database in pages, else 0
**   4  version 3007000                      8  salts as in the header
**   8  page size                           16  checksum of all frames so far: over bytes 0..7 and the page,
**  12  checkpoint sequence                     continuing the frame before, the header before the first
**  16  salts
**  24  checksum of bytes 0..23
**
** A frame is valid if it names a page, carries the header's salts and continues the chain of checksums. After the
** first one that does not, everything later is dead: SQLite's recovery stops there, too. */
#include <errno.h>

#include "bytes.h"

#define HEADER 32
#define FRAME_HEADER 24

static pw_status finish(pw_wal *state, pw_wal_end end) {
  state->done = 1;
  state->end = (int32_t)end;
  return PW_OK;
}

pw_status pw_wal_begin(int wal, uint32_t page_size, pw_wal *state, pw_fault *fault) {
  uint8_t header[HEADER];
  *fault = (pw_fault){0};
  *state = (pw_wal){0};
  int64_t n = pw_pread(wal, header, HEADER, 0);
  if (n < 0) {
    return pw_fail(fault, PW_IO, errno, 0, 0);
  }
  if (n < HEADER) {
    return finish(state, PW_WAL_NO_HEADER);
  }
  uint32_t magic = pw_get_be32(header);
  uint32_t size = pw_get_be32(header + 8);
  if ((magic & ~UINT32_C(1)) != UINT32_C(0x377f0682) || pw_get_be32(header + 4) != 3007000 ||
      !pw_page_size_valid(size)) {
    return finish(state, PW_WAL_BAD_HEADER);
  }
  state->big_endian = (int32_t)(magic & 1);
  pw_chain(header, 24, state->big_endian, state->checksum);
  if (state->checksum[0] != pw_get_be32(header + 24) || state->checksum[1] != pw_get_be32(header + 28)) {
    *state = (pw_wal){0};
    return finish(state, PW_WAL_BAD_HEADER);
  }
  state->page_size = size;
  state->sequence = pw_get_be32(header + 12);
  memcpy(state->salts, header + 16, 8);
  return page_size != 0 && page_size != size ? finish(state, PW_WAL_PAGE_SIZE) : PW_OK;
}

/* Judge one frame and take it into the chain. Returns 0 if it ends the chain. */
static int take(pw_wal *state, const uint8_t *frame) {
  uint32_t sum[2] = {state->checksum[0], state->checksum[1]};
  uint32_t pgno = pw_get_be32(frame);
  uint32_t pages = pw_get_be32(frame + 4);
  if (memcmp(frame + 8, state->salts, 8) != 0) {
    finish(state, PW_WAL_SALTS);
    return 0;
  }
  if (pgno == 0) {
    finish(state, PW_WAL_PGNO);
    return 0;
  }
  pw_chain(frame, 8, state->big_endian, sum);
  pw_chain(frame + FRAME_HEADER, state->page_size, state->big_endian, sum);
  if (sum[0] != pw_get_be32(frame + 16) || sum[1] != pw_get_be32(frame + 20)) {
    finish(state, PW_WAL_CHECKSUM);
    return 0;
  }
  state->valid++;
  state->checksum[0] = sum[0];
  state->checksum[1] = sum[1];
  if (pgno == 1) {
    state->first_page_one = state->first_page_one == 0 ? state->valid : state->first_page_one;
    state->page_one = state->valid;
  }
  if (pages != 0) {
    state->commits++;
    state->commit_page_one = state->page_one;
    state->commit = state->valid;
    state->commit_pages = pages;
    state->commit_checksum[0] = sum[0];
    state->commit_checksum[1] = sum[1];
  }
  return 1;
}

/* Where what is told of each frame goes; NULL where it is not wanted. */
typedef struct {
  uint8_t *entries; /* u32 pgno, u32 frame */
  uint8_t *numbers; /* u32 pgno */
  uint8_t *sizes;   /* u32 commit field */
  uint8_t *sums;    /* u64 page sum */
  uint8_t *pages;   /* the page */
} sink;

static void put(const sink *to, size_t place, const pw_wal *state, const uint8_t *frame) {
  const uint32_t pgno = pw_get_be32(frame), size = state->page_size;
  if (to->entries != NULL) {
    pw_put_le32(to->entries + place * 8, pgno);
    pw_put_le32(to->entries + place * 8 + 4, state->valid);
    return;
  }
  pw_put_le32(to->numbers + place * 4, pgno);
  pw_put_le32(to->sizes + place * 4, pw_get_be32(frame + 4));
  pw_put_le64(to->sums + place * 8, pgno == pw_lock_page(size) ? 0 : pw_xxh64(frame + FRAME_HEADER, size, pgno));
  if (to->pages != NULL) {
    memcpy(to->pages + place * size, frame + FRAME_HEADER, size);
  }
}

static pw_status follow(int wal, uint32_t limit, pw_wal *state, uint8_t *buffer, size_t buffer_size, const sink *to,
                        uint32_t room, uint32_t *used, pw_fault *fault) {
  if (state->done) {
    return PW_OK;
  }
  const uint64_t frame_size = FRAME_HEADER + (uint64_t)state->page_size;
  if (!pw_page_size_valid(state->page_size) || buffer_size < frame_size) {
    return pw_fail(fault, PW_ARGUMENT, 0, 0, 0);
  }
  if (limit == UINT32_MAX) {
    limit--; /* frames are counted in 32 bits */
  }
  while (*used < room) {
    if (state->valid >= limit) {
      return finish(state, PW_WAL_LIMIT);
    }
    uint64_t want = buffer_size / frame_size;
    want = want < room - *used ? want : room - *used;
    want = want < limit - state->valid ? want : limit - state->valid;
    uint64_t offset = HEADER + state->valid * frame_size;
    int64_t n = pw_pread(wal, buffer, (size_t)(want * frame_size), offset);
    if (n < 0) {
      return pw_fail(fault, PW_IO, errno, 0, offset);
    }
    uint64_t whole = (uint64_t)n / frame_size;
    for (uint64_t i = 0; i < whole; i++) {
      if (!take(state, buffer + i * frame_size)) {
        return PW_OK;
      }
      put(to, *used, state, buffer + i * frame_size);
      *used += 1;
    }
    if (whole < want) {
      return finish(state, (uint64_t)n % frame_size ? PW_WAL_PARTIAL : PW_WAL_END);
    }
  }
  return PW_OK;
}

pw_status pw_wal_follow(int wal, uint32_t limit, pw_wal *state, uint8_t *buffer, size_t buffer_size, uint8_t *entries,
                        uint32_t room, uint32_t *used, pw_fault *fault) {
  const sink to = {.entries = entries};
  *fault = (pw_fault){0};
  *used = 0;
  return follow(wal, limit, state, buffer, buffer_size, &to, room, used, fault);
}

pw_status pw_wal_take(int wal, uint32_t limit, pw_wal *state, uint8_t *buffer, size_t buffer_size, uint8_t *numbers,
                      uint8_t *sizes, uint8_t *sums, uint8_t *pages, size_t pages_size, uint32_t room, uint32_t *used,
                      pw_fault *fault) {
  const sink to = {.numbers = numbers, .sizes = sizes, .sums = sums, .pages = pages};
  *fault = (pw_fault){0};
  *used = 0;
  if (pages != NULL && !pw_holds(pages_size, room, state->page_size)) {
    return pw_fail(fault, PW_ARGUMENT, 0, 0, 0);
  }
  return follow(wal, limit, state, buffer, buffer_size, &to, room, used, fault);
}

void pw_wal_map(uint8_t *entries, uint8_t *scratch, uint32_t count, uint32_t *used) {
  /* Least significant digit first: stable, so that the frames of a page keep their order; four passes end where they began. */
  uint8_t *from = entries, *to = scratch;
  for (unsigned digit = 0; digit < 4; digit++) {
    size_t starts[257] = {0};
    for (uint32_t i = 0; i < count; i++) {
      starts[(size_t)from[(size_t)i * 8 + digit] + 1]++;
    }
    for (unsigned value = 0; value < 256; value++) {
      starts[value + 1] += starts[value];
    }
    for (uint32_t i = 0; i < count; i++) {
      size_t place = starts[from[(size_t)i * 8 + digit]]++;
      memcpy(to + place * 8, from + (size_t)i * 8, 8);
    }
    uint8_t *swapped = from;
    from = to;
    to = swapped;
  }
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    int last = i + 1 == count || memcmp(entries + (size_t)i * 8, entries + ((size_t)i + 1) * 8, 4) != 0;
    if (last) {
      memmove(entries + (size_t)kept * 8, entries + (size_t)i * 8, 8);
      kept++;
    }
  }
  *used = kept;
}
