/* One b-tree page: its header, its cells with their records, order and chains, and the use of its bytes. */
#include "record.h"

/* Read the header of a page whose first byte is a b-tree page's; whether its cell pointers fit. */
int pw_page_open(const pw_walk *walk, const uint8_t *bytes, uint32_t pgno, pw_page *page) {
  const uint32_t header = pgno == 1 ? 100 : 0;
  const uint8_t kind = bytes[header];
  *page = (pw_page){.bytes = bytes, .pgno = pgno, .usable = walk->usable, .header = header};
  page->leaf = (kind & 8) != 0;
  page->index = (kind & 2) != 0;
  page->cells = pw_get_be16(bytes + header + 3);
  page->pointers = header + (page->leaf ? 8 : 12);
  if ((kind != 2 && kind != 5 && kind != 10 && kind != 13) || page->cells > pw_most_cells(walk->page_size)) {
    return 0;
  }
  const uint32_t end = page->pointers + 2 * page->cells, content = pw_content(page);
  page->content = content < end || content > page->usable ? end : content;
  return 1;
}

static uint8_t *key_buffer(const pw_walking *w, uint32_t which) {
  return w->keys + (size_t)which * (PW_MAX_KEY + PW_SLACK);
}

static PW_COLD void out_of_order(pw_walking *w, const pw_visit *visit, uint32_t index, uint32_t other) {
  pw_flaw flaw = {.kind = PW_FLAW_KEY_ORDER, .pgno = visit->page.pgno, .tree = visit->tree_number, .cell = index};
  flaw.fields = PW_HAS_CELL | (other ? PW_HAS_OTHER : 0);
  flaw.other = other;
  pw_report(w, flaw);
}

/* Compare a key with the one before it, or with the parents' lower bound. */
PW_ALWAYS_INLINE pw_status key_next(pw_walking *w, pw_visit *visit, uint32_t index, const uint8_t *key) {
  const uint8_t *before = visit->previous;
  uint32_t other = 0;
  if (!before && visit->bounds->has_low) {
    other = visit->bounds->low_page;
    pw_status status = pw_bound_key(w, visit->tree, other, visit->bounds->low_cell, 0, &before);
    if (status != PW_OK) {
      return status;
    }
  }
  if (before) {
    pw_comparison found = pw_keys_compare(w->walk, visit->tree, before, key);
    if (found == PW_EQUAL || found == PW_ABOVE) {
      out_of_order(w, visit, index, other);
    }
  }
  visit->previous = key;
  visit->previous_cell = index;
  return PW_OK;
}

/* The last key that could be compared must be below the parents' upper bound. */
static pw_status key_last(pw_walking *w, pw_visit *visit) {
  const pw_bounds *bounds = visit->bounds;
  if (!visit->previous || !bounds->has_high) {
    return PW_OK;
  }
  const uint8_t *bound;
  pw_status status = pw_bound_key(w, visit->tree, bounds->high_page, bounds->high_cell, 1, &bound);
  if (status == PW_OK && bound) {
    pw_comparison found = pw_keys_compare(w->walk, visit->tree, visit->previous, bound);
    if (found == PW_EQUAL || found == PW_ABOVE) {
      out_of_order(w, visit, visit->previous_cell, bounds->high_page);
    }
  }
  return status;
}

/* A record that is all on the page: report what is wrong with it; whether its order can be judged. */
static __attribute__((noinline)) int record_comparable(pw_walking *w, const pw_visit *visit, const pw_cell *cell,
                                                       uint32_t index) {
  const pw_tree *tree = visit->tree;
  pw_record record;
  pw_record_state state = pw_record_look(w->walk, tree, cell->at, cell->local, cell->payload, &record);
  return (state == PW_RECORD_WHOLE && pw_record_holds(tree, &record, cell->payload)) ||
         pw_record_flaws(w, visit, cell, index, cell->at, state, &record);
}

/* A cell with an overflow chain: walk it, and put together what must be looked at. */
static __attribute__((noinline)) pw_status cell_overflowing(pw_walking *w, pw_visit *visit, const pw_cell *cell,
                                                            uint32_t index, int judged) {
  const pw_tree *tree = visit->tree;
  pw_record record = {0};
  pw_record_state state = pw_record_look(w->walk, tree, cell->at, cell->local, cell->payload, &record);
  uint32_t want = 0, got = 0;
  const uint32_t longest = cell->payload < PW_MAX_KEY ? cell->payload : PW_MAX_KEY;
  if (state == PW_RECORD_ELSEWHERE) {
    want = tree->keys ? longest : record.header > PW_MAX_KEY ? 0 : (uint32_t)record.header;
  } else if (state == PW_RECORD_WHOLE && tree->keys && record.need > cell->local && record.need <= longest) {
    want = (uint32_t)record.need;
  }
  if (!judged) {
    want = 0;
  }
  uint8_t *buffer = key_buffer(w, visit->buffer);
  pw_status status = pw_chain_walk(w, visit, cell, index, buffer, want, &got);
  if (status != PW_OK || !judged) {
    return status;
  }
  const uint8_t *at = cell->at;
  uint32_t there = cell->local;
  if (got > there) {
    at = buffer;
    there = got;
  }
  if (state == PW_RECORD_ELSEWHERE) {
    if (record.header > PW_MAX_KEY) {
      w->seen->unordered += tree->keys != 0;
      return PW_OK;
    }
    state = pw_record_look(w->walk, tree, at, there, cell->payload, &record);
    if (state == PW_RECORD_ELSEWHERE) {
      return PW_OK; /* the chain ended before */
    }
  }
  if (state != PW_RECORD_WHOLE || !pw_record_holds(tree, &record, cell->payload)) {
    if (!pw_record_flaws(w, visit, cell, index, at, state, &record)) {
      return PW_OK;
    }
  }
  if (!tree->keys) {
    return PW_OK;
  }
  if (record.need > PW_MAX_KEY) {
    w->seen->unordered++;
    return PW_OK;
  }
  if (record.need > there) {
    return PW_OK;
  }
  status = key_next(w, visit, index, at);
  if (at == buffer) {
    visit->buffer ^= 1;
  }
  return status;
}

static PW_COLD void cell_flaw(pw_walking *w, pw_visit *visit, uint32_t index, uint32_t kind, const pw_cell *cell) {
  pw_flaw flaw = {.kind = kind, .pgno = visit->page.pgno, .tree = visit->tree_number, .cell = index};
  flaw.fields = PW_HAS_CELL | PW_HAS_SEEN;
  flaw.seen = cell->seen;
  if (kind == PW_FLAW_CELL_SIZE) {
    flaw.fields |= PW_HAS_EXPECTED;
    flaw.expected = visit->page.usable;
  }
  pw_report(w, flaw);
  visit->flawed = 1;
}

static PW_COLD void rowid_flaw(pw_walking *w, const pw_visit *visit, uint32_t index, int64_t rowid, int64_t bound) {
  pw_flaw flaw = {.kind = PW_FLAW_ROWID_ORDER, .pgno = visit->page.pgno, .tree = visit->tree_number, .cell = index};
  flaw.fields = PW_HAS_CELL | PW_HAS_ROWID | PW_HAS_EXPECTED;
  flaw.rowid = rowid;
  flaw.expected = bound;
  pw_report(w, flaw);
}

/* All cells; `leaf` and `index` are constants, so that there is a loop of its own for each kind of page. */
PW_ALWAYS_INLINE pw_status check_cells(pw_walking *w, pw_visit *visit, uint32_t leaf, uint32_t index) {
  const pw_page page = visit->page;
  const pw_tree *tree = visit->tree;
  int has_low = visit->bounds->has_low != 0;
  const int64_t high = visit->bounds->has_high ? visit->bounds->high : INT64_MAX;
  int64_t low = visit->bounds->low;
  uint64_t total = 0;
  for (uint32_t i = 0; i < page.cells; i++) {
    pw_cell cell;
    uint32_t kind = pw_cell_parse(w, &page, i, leaf, index, &cell);
    if (kind) {
      cell_flaw(w, visit, i, kind, &cell);
      continue;
    }
    total += cell.end - cell.offset;
    if (cell.end == visit->run) { /* rows that were appended lie one before the other */
      visit->run = cell.offset;
    } else {
      visit->total = total;
      pw_space_use(w, visit, cell.offset, cell.end);
    }
    if (!index) {
      if ((has_low && cell.rowid <= low) || cell.rowid > high) {
        rowid_flaw(w, visit, i, cell.rowid, has_low && cell.rowid <= low ? low : high);
      }
      low = cell.rowid;
      has_low = 1;
    }
    if (!leaf && !index) {
      continue;
    }
    pw_status status = PW_OK;
    const int judged = total <= page.usable;
    if (cell.local < cell.payload) {
      status = cell_overflowing(w, visit, &cell, i, judged);
    } else if (judged && (pw_record_quick(w->refused, tree->keys, cell.at, cell.payload) ||
                          record_comparable(w, visit, &cell, i))) {
      if (index && tree->keys) {
        status = key_next(w, visit, i, cell.at);
      }
    }
    if (status != PW_OK) {
      return status;
    }
  }
  visit->total = total;
  return index ? key_last(w, visit) : PW_OK;
}

static void refuse(pw_walking *w, const pw_tree *tree) {
  memset(w->refused, PW_CLASS_RESERVED, sizeof w->refused);
  for (uint32_t i = 0; i < PW_QUICK && i < tree->columns; i++) {
    w->refused[i] = (uint8_t)~w->walk->allowed[tree->first + i];
  }
  w->tree = tree;
}

/* Everything about a page whose header holds, and the chains of its cells. */
pw_status pw_page_check(pw_walking *w, pw_visit *visit) {
  pw_status status;
  if (w->tree != visit->tree) {
    refuse(w, visit->tree);
  }
  if (visit->page.leaf) {
    status = visit->page.index ? check_cells(w, visit, 1, 1) : check_cells(w, visit, 1, 0);
  } else {
    status = visit->page.index ? check_cells(w, visit, 0, 1) : check_cells(w, visit, 0, 0);
  }
  if (status == PW_OK) {
    pw_space_check(w, visit);
  }
  return status;
}
