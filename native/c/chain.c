/* Pointers to pages: each page is used once, and its ptrmap entry says by whom. Overflow chains. */
#include <errno.h>

#include "walk.h"

/* The ptrmap page that holds the entry of `pgno`, which is at least 2 (file format, section 1.8). */
uint32_t pw_map_page(const pw_walk *walk, uint32_t pgno) {
  const uint32_t each = walk->usable / 5 + 1;
  uint32_t map = (pgno - 2) / each * each + 2;
  return map == pw_lock_page(walk->page_size) ? map + 1 : map;
}

/* Whether a page other than the first can be in a b-tree, a chain or the freelist. */
int pw_page_possible(const pw_walk *walk, uint32_t pgno) {
  return pgno >= 2 && pgno <= walk->pages && pgno != pw_lock_page(walk->page_size) &&
         !(walk->pointer_map && pw_map_page(walk, pgno) == pgno);
}

static void tell(const pw_pointer *pointer, pw_flaw *flaw) {
  flaw->tree = pointer->tree;
  flaw->fields |= pointer->fields;
  flaw->rowid = pointer->rowid;
}

/* Report where the ptrmap has another entry. Returns -1 if reading it failed for good. */
static PW_COLD int map_check(pw_walking *w, uint32_t pgno, const pw_pointer *pointer) {
  const uint32_t map = pw_map_page(w->walk, pgno), size = w->walk->page_size;
  const uint32_t slot = map / (w->walk->usable / 5 + 1) % PW_MAPS;
  uint8_t *page = w->maps + (size_t)slot * size;
  if (w->parts->maps[slot] != map) {
    w->parts->maps[slot] = 0;
    if (pw_read(w->source, map, 1, page, size, w->fault) != PW_OK) {
      if (w->fault->status != PW_IO || w->fault->error != EIO) {
        return -1;
      }
      *w->fault = (pw_fault){0};
      return 1;
    }
    w->parts->maps[slot] = map;
  }
  const uint8_t *entry = page + (size_t)5 * (pgno - map - 1);
  int64_t seen = (int64_t)entry[0] << 32 | pw_get_be32(entry + 1);
  int64_t expected = (int64_t)pointer->map_type << 32 | pointer->map_parent;
  if (seen != expected) {
    pw_flaw flaw = {.kind = PW_FLAW_POINTER_MAP, .pgno = pgno, .other = pointer->holder, .expected = expected};
    flaw.seen = seen;
    flaw.fields = PW_HAS_EXPECTED | PW_HAS_SEEN | (pointer->holder ? PW_HAS_OTHER : 0);
    tell(pointer, &flaw);
    pw_report(w, flaw);
  }
  return 1;
}

static PW_COLD void impossible(pw_walking *w, uint32_t pgno, const pw_pointer *pointer) {
  pw_flaw flaw = {.kind = PW_FLAW_PAGE_NUMBER, .pgno = pointer->holder ? pointer->holder : pgno, .seen = pgno};
  flaw.fields = PW_HAS_SEEN;
  if (pointer->cell != UINT32_MAX) {
    flaw.fields |= PW_HAS_CELL;
    flaw.cell = pointer->cell;
  }
  if (pointer->chain) {
    flaw.fields |= PW_HAS_OTHER;
    flaw.other = pointer->chain;
  }
  tell(pointer, &flaw);
  pw_report(w, flaw);
}

/* Use page `pgno`, to which `pointer` leads: 1, 0 if that was reported, -1 if reading the ptrmap failed for good.
** Where users are asked for, the ptrmap is what they are to be written into, so that it is not judged. */
int pw_pointer_take(pw_walking *w, uint32_t pgno, const pw_pointer *pointer) {
  if (!pw_page_possible(w->walk, pgno) && !(pgno == 1 && pointer->holder == 0 && w->walk->pages >= 1)) {
    impossible(w, pgno, pointer);
    return 0;
  }
  const uint8_t bit = (uint8_t)(1u << (pgno & 7));
  if (__atomic_fetch_or(w->walk->used + (pgno >> 3), bit, __ATOMIC_RELAXED) & bit) {
    pw_flaw flaw = {.kind = PW_FLAW_TWICE, .pgno = pgno, .other = pointer->holder};
    flaw.fields = pointer->holder ? PW_HAS_OTHER : 0;
    tell(pointer, &flaw);
    pw_report(w, flaw);
    return 0;
  }
  w->seen->pages++;
  if (w->walk->users) {
    uint8_t *user = w->walk->users + (size_t)5 * (pgno - 1);
    user[0] = (uint8_t)pointer->map_type;
    pw_put_be32(user + 1, pointer->map_parent);
    return 1;
  }
  return w->walk->pointer_map && pgno > 1 ? map_check(w, pgno, pointer) : 1;
}

/* A read of page `pgno` gave `status`: a flaw if the disk refuses, else it is returned. */
pw_status pw_unreadable(pw_walking *w, pw_status status, uint32_t pgno, const pw_pointer *pointer) {
  if (status != PW_IO || w->fault->error != EIO) {
    return status;
  }
  pw_flaw flaw = {.kind = PW_FLAW_UNREADABLE, .pgno = pgno, .other = pointer->holder, .seen = EIO};
  flaw.fields = PW_HAS_SEEN | (pointer->holder ? PW_HAS_OTHER : 0);
  tell(pointer, &flaw);
  pw_report(w, flaw);
  *w->fault = (pw_fault){0};
  return PW_OK;
}

/* Read the first `size` bytes of an overflow page, from the window where it stands there. */
static pw_status read_link(pw_walking *w, uint32_t pgno, uint32_t size, const uint8_t **at, uint8_t *to) {
  if (pgno - w->parts->window < w->parts->windowed) {
    *at = w->window + (size_t)(pgno - w->parts->window) * w->walk->page_size;
    return PW_OK;
  }
  *at = to;
  return pw_read_part(w->source, pgno, 0, size, to, w->fault);
}

/* Copy what an overflow page holds of the `want` bytes. */
static void gather(const pw_walking *w, const uint8_t *page, uint8_t *to, uint32_t want, uint32_t *got) {
  const uint32_t room = w->walk->usable - 4, some = want - *got < room ? want - *got : room;
  memcpy(to + *got, page + 4, some);
  *got += some;
}

static void begin(const pw_cell *cell, uint8_t *to, uint32_t want, uint32_t *got) {
  *got = cell->local < want ? cell->local : want;
  if (*got) {
    memcpy(to, cell->at, *got);
  }
}

/* Walk the overflow chain of a cell and use its pages. Up to `want` bytes of the payload are written to `to`, as many as
** go to `*got`. */
pw_status pw_chain_walk(pw_walking *w, const pw_visit *visit, const pw_cell *cell, uint32_t index, uint8_t *to,
                        uint32_t want, uint32_t *got) {
  const uint32_t room = w->walk->usable - 4, home = visit->page.pgno;
  const uint32_t count = (cell->payload - cell->local + room - 1) / room;
  pw_pointer pointer = {.tree = visit->tree_number, .holder = home, .cell = index, .map_type = 3, .map_parent = home};
  if (!visit->tree->index) {
    pointer.fields = PW_HAS_ROWID;
    pointer.rowid = cell->rowid;
  }
  begin(cell, to, want, got);
  uint32_t next = pw_get_be32(cell->at + cell->local), length = 0;
  uint8_t link[4];
  for (; length < count && next; length++) {
    const uint32_t pgno = next;
    int taken = pw_pointer_take(w, pgno, &pointer);
    if (taken <= 0) {
      return (pw_status)w->fault->status;
    }
    const uint8_t *page;
    uint8_t *buffer = w->slots + (size_t)(PW_PARTS + 2) * w->walk->page_size;
    pw_status status = *got < want ? read_link(w, pgno, w->walk->usable, &page, buffer)
                                   : read_link(w, pgno, 4, &page, link);
    if (status != PW_OK) {
      return pw_unreadable(w, status, pgno, &pointer);
    }
    next = pw_get_be32(page);
    if (*got < want) {
      gather(w, page, to, want, got);
    }
    pointer.holder = pointer.map_parent = pgno;
    pointer.map_type = 4;
    pointer.cell = UINT32_MAX;
    pointer.chain = home;
  }
  if (length < count || next) {
    pw_flaw flaw = {.kind = PW_FLAW_OVERFLOW_LENGTH, .pgno = home, .cell = index, .expected = count};
    flaw.fields = PW_HAS_CELL | PW_HAS_EXPECTED | PW_HAS_SEEN;
    flaw.seen = (int64_t)length + (length == count);
    tell(&pointer, &flaw);
    pw_report(w, flaw);
  }
  return PW_OK;
}

/* Put the first `want` bytes of a cell's payload together, whoever else uses the pages. */
pw_status pw_chain_gather(pw_walking *w, const pw_cell *cell, uint8_t *to, uint32_t want, uint32_t *got) {
  begin(cell, to, want, got);
  uint32_t next = pw_get_be32(cell->at + cell->local);
  while (*got < want && pw_page_possible(w->walk, next)) { /* each page brings bytes */
    const uint8_t *page;
    uint8_t *buffer = w->slots + (size_t)(PW_PARTS + 2) * w->walk->page_size;
    pw_status status = read_link(w, next, w->walk->usable, &page, buffer);
    if (status != PW_OK) {
      if (status != PW_IO || w->fault->error != EIO) {
        return status;
      }
      *w->fault = (pw_fault){0};
      break;
    }
    gather(w, page, to, want, got);
    next = pw_get_be32(page);
  }
  return PW_OK;
}
