/* What stands in a write-ahead log behind the end of its chain. Format: wal.c
**
** SQLite's recovery stops at the first frame that is not valid, and never looks at what follows. A frame behind that
** point whose stored checksum continues the stored checksum of the frame before it was written as its successor: chance
** does that once in 2^64. So a commit mark on it proves a transaction that was committed and is not served any more.
**
** A broken frame can be broken in its page, its pgno or its commit mark; then the checksum that it stores is still what
** its successor continues. Or it is broken in the stored checksum; then the successor continues what its bytes sum up to
** (`other`). In both cases a successor proves that it was once whole, so its commit mark counts, too.
**
** A frame whose salts and checksum are zeros is one that SQLite meant to sum up at the commit, and did not: it was cut
** off there, or, after ROLLBACK TO of a transaction that has spilled, forgot it (seen with 3.40). In the latter case the
** next transaction continues the checksum before those frames, which proves that they were committed.
**
** What is legal behind the end of a chain proves no commit: frames that a large transaction spilled and rolled back
** bear no mark, and frames of an older generation have other salts. Of those only the headers are read. */
#include <errno.h>

#include "bytes.h"

#define HEADER 32
#define FRAME_HEADER 24

static int same(const uint32_t one[2], const uint8_t *stored) {
  return one[0] == pw_get_be32(stored) && one[1] == pw_get_be32(stored + 4);
}

/* Judge one frame that bears the salts. */
static void judge(pw_behind *state, const uint8_t *header, const uint8_t *page) {
  uint32_t sum[2] = {state->checksum[0], state->checksum[1]};
  uint32_t other[2] = {state->other[0], state->other[1]};
  const int commits = pw_get_be32(header + 4) != 0;
  pw_chain(header, 8, state->big_endian, sum);
  pw_chain(page, state->page_size, state->big_endian, sum);
  int continues = pw_get_be32(header) != 0 && same(sum, header + 16);
  if (!continues && pw_get_be32(header) != 0) {
    pw_chain(header, 8, state->big_endian, other);
    pw_chain(page, state->page_size, state->big_endian, other);
    continues = same(other, header + 16);
  }
  if (continues) {
    if (state->pending) {
      state->commits += state->pending;
      state->last_commit = state->pending_last;
    }
    if (state->broken_commit) {
      state->commits++;
      state->last_commit = state->at;
    }
    state->stranded++;
    state->first = state->first == 0 ? state->at + 1 : state->first;
    if (commits) {
      state->commits++;
      state->last_commit = state->at + 1;
    }
  }
  state->broken_commit = !continues && commits;
  state->pending = 0;
  state->apart = 1;
  state->other[0] = sum[0];
  state->other[1] = sum[1];
  state->checksum[0] = pw_get_be32(header + 16);
  state->checksum[1] = pw_get_be32(header + 20);
}

static int is_bare(const uint8_t *header) {
  static const uint8_t zeros[16];
  return pw_get_be32(header) != 0 && memcmp(header + 8, zeros, 16) == 0;
}

/* Take note of one frame without salts and checksum. What the frame before it stores is what a successor continues. */
static void note_bare(pw_behind *state, const uint8_t *header) {
  const int commits = pw_get_be32(header + 4) != 0;
  state->bare += !state->apart;
  if (commits) {
    state->bare_commit = state->apart ? state->bare_commit : state->at + 1;
    state->pending++;
    state->pending_last = state->at + 1;
  }
  state->broken_commit = 0;
}

/* Take note of one frame that bears other salts: an older generation's, or damaged there. */
static void pass(pw_behind *state, const uint8_t *header) {
  state->older += (pw_get_be32(header + 8) | pw_get_be32(header + 12)) != 0;
  state->broken_commit = pw_get_be32(header + 4) != 0;
  state->pending = 0;
  state->apart = 1;
  state->checksum[0] = state->other[0] = pw_get_be32(header + 16);
  state->checksum[1] = state->other[1] = pw_get_be32(header + 20);
}

pw_status pw_wal_behind(int wal, pw_behind *state, uint32_t most, uint8_t *buffer, size_t buffer_size,
                        pw_fault *fault) {
  *fault = (pw_fault){0};
  if (!pw_page_size_valid(state->page_size) || buffer_size < state->page_size) {
    return pw_fail(fault, PW_ARGUMENT, 0, 0, 0);
  }
  const uint64_t frame_size = FRAME_HEADER + (uint64_t)state->page_size;
  for (uint32_t looked = 0; looked < most && !state->done; looked++) {
    uint8_t header[FRAME_HEADER];
    uint64_t offset = HEADER + state->at * frame_size;
    int64_t n = state->at == UINT32_MAX ? 0 : pw_pread(wal, header, FRAME_HEADER, offset);
    const int ours = n == FRAME_HEADER && memcmp(header + 8, state->salts, 8) == 0;
    if (n == FRAME_HEADER) {
      /* of a frame that is passed by, the last byte, so that one which is cut off does not count */
      const uint64_t skipped = ours ? 0 : state->page_size - 1;
      offset += FRAME_HEADER + skipped;
      n = pw_pread(wal, buffer, (size_t)(state->page_size - skipped), offset);
      n = n < 0 ? n : n + (int64_t)skipped;
    }
    if (n < 0) {
      return pw_fail(fault, PW_IO, errno, 0, offset);
    }
    if (n < (int64_t)state->page_size) {
      state->done = 1;
      break;
    }
    if (ours) {
      judge(state, header, buffer);
    } else if (is_bare(header)) {
      note_bare(state, header);
    } else {
      pass(state, header);
    }
    state->at++;
  }
  return PW_OK;
}
