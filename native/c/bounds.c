/* The keys of interior pages of indexes that the keys below them must lie between. */
#include <errno.h>

#include "record.h"

/* The bytes of an interior page: from the slot of the part that it belongs to, else read into one of two slots of its
** own. NULL where the disk refuses. */
static pw_status interior(pw_walking *w, uint32_t pgno, uint32_t which, const uint8_t **bytes) {
  const uint32_t size = w->walk->page_size;
  pw_parts *parts = w->parts;
  for (uint32_t i = parts->count; i-- > 0;) {
    if (parts->held[i] == pgno) {
      *bytes = w->slots + (size_t)i * size;
      return PW_OK;
    }
  }
  const uint32_t slot = PW_PARTS + which;
  uint8_t *to = w->slots + (size_t)slot * size;
  *bytes = to;
  if (parts->held[slot] == pgno) {
    return PW_OK;
  }
  parts->held[slot] = 0;
  pw_status status = pw_read(w->source, pgno, 1, to, size, w->fault);
  if (status == PW_OK) {
    parts->held[slot] = pgno;
  } else if (status == PW_IO && w->fault->error == EIO) {
    *w->fault = (pw_fault){0};
    *bytes = NULL;
    return PW_OK;
  }
  return status;
}

/* The record of a cell of an interior page, as far as a comparison needs it; NULL where it cannot be compared. `which`
** is 0 for the lower and 1 for the upper bound. */
pw_status pw_bound_key(pw_walking *w, const pw_tree *tree, uint32_t pgno, uint32_t cell, uint32_t which,
                       const uint8_t **key) {
  *key = NULL;
  const uint8_t *bytes;
  pw_status status = interior(w, pgno, which, &bytes);
  pw_page page;
  pw_cell found;
  if (status != PW_OK || !bytes || !pw_page_open(w->walk, bytes, pgno, &page) || page.leaf || !page.index ||
      cell >= page.cells || pw_cell_parse(w, &page, cell, 0, 1, &found)) {
    return status;
  }
  pw_record record;
  pw_record_state state = pw_record_look(w->walk, tree, found.at, found.local, found.payload, &record);
  const uint8_t *at = found.at;
  uint32_t there = found.local;
  if (state == PW_RECORD_ELSEWHERE || (state == PW_RECORD_WHOLE && record.need > there && record.need <= PW_MAX_KEY)) {
    uint32_t want = found.payload < PW_MAX_KEY ? found.payload : PW_MAX_KEY;
    if (state == PW_RECORD_WHOLE) {
      want = (uint32_t)record.need < want ? (uint32_t)record.need : want;
    }
    uint8_t *buffer = w->keys + (size_t)(2 + which) * (PW_MAX_KEY + PW_SLACK);
    if (found.local == found.payload) { /* nothing more is to be had */
      return PW_OK;
    }
    status = pw_chain_gather(w, &found, buffer, want, &there);
    if (status != PW_OK) {
      return status;
    }
    at = buffer;
    state = pw_record_look(w->walk, tree, at, there, found.payload, &record);
  }
  if (state == PW_RECORD_WHOLE && pw_record_comparable(tree, &record, found.payload) && record.need <= there) {
    *key = at;
  }
  return PW_OK;
}
