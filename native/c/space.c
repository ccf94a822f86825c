/* Which bytes of a page its cells and free blocks use: none twice, and the rest as many as the header says. */
#include "walk.h"

/* Mark bytes start ... end-1; returns the first that was marked already, or UINT32_MAX. */
static uint32_t mark(uint8_t *bits, uint32_t start, uint32_t end) {
  uint64_t *words = (uint64_t *)(void *)bits;
  const uint32_t last = (end - 1) / 64;
  uint32_t twice = UINT32_MAX;
  for (uint32_t word = start / 64; word <= last; word++) {
    uint64_t mask = UINT64_MAX;
    if (word == start / 64) {
      mask <<= start % 64;
    }
    if (word == last) {
      mask &= UINT64_MAX >> (63 - (end - 1) % 64);
    }
    if (twice == UINT32_MAX && (words[word] & mask)) {
      twice = word * 64 + (uint32_t)__builtin_ctzll(words[word] & mask);
    }
    words[word] |= mask;
  }
  return twice;
}

static void clear(const pw_walking *w) { memset(w->bits, 0, w->walk->page_size / 8); }

/* Put the run aside and begin another. Once bytes are known to be used twice nothing more is marked: pw_space_check does
** it all again, cell by cell. */
void pw_space_use(pw_walking *w, pw_visit *visit, uint32_t start, uint32_t end) {
  if (visit->run != visit->run_end && !visit->overlapping) {
    if (!visit->marked) {
      clear(w);
      visit->marked = 1;
    }
    visit->overlapping |= mark(w->bits, visit->run, visit->run_end) != UINT32_MAX;
  }
  visit->overlapping |= visit->total > visit->page.usable;
  visit->run = start;
  visit->run_end = end;
}

static int parse(const pw_walking *w, const pw_page *page, uint32_t index, pw_cell *cell) {
  return pw_cell_parse(w, page, index, page->leaf, page->index, cell) == 0;
}

/* Report the cells and free blocks that share bytes with those before them. */
static PW_COLD void overlaps(pw_walking *w, const pw_visit *visit, uint32_t blocks_end) {
  const pw_page *page = &visit->page;
  pw_flaw flaw = {.kind = PW_FLAW_CELL_OVERLAP, .pgno = page->pgno, .tree = visit->tree_number};
  uint32_t found = 0;
  clear(w);
  for (uint32_t i = 0; i < page->cells && found < PW_PAGE_FLAWS; i++) {
    pw_cell cell;
    if (!parse(w, page, i, &cell)) {
      continue;
    }
    uint32_t twice = mark(w->bits, cell.offset, cell.end);
    if (twice != UINT32_MAX) {
      found++;
      flaw.fields = PW_HAS_CELL | PW_HAS_SEEN;
      flaw.cell = i;
      flaw.seen = twice;
      pw_report(w, flaw);
    }
  }
  uint32_t at = visit->broken ? 0 : pw_get_be16(page->bytes + page->header + 1);
  while (at && at != blocks_end && found < PW_PAGE_FLAWS) {
    uint32_t twice = mark(w->bits, at, at + pw_get_be16(page->bytes + at + 2));
    if (twice != UINT32_MAX) {
      found++;
      flaw.fields = PW_HAS_SEEN;
      flaw.seen = twice;
      pw_report(w, flaw);
    }
    at = pw_get_be16(page->bytes + at);
  }
}

/* After the cells: the free blocks, overlaps, and the count of fragmented bytes. */
void pw_space_check(pw_walking *w, pw_visit *visit) {
  const pw_page *page = &visit->page;
  const uint8_t *bytes = page->bytes;
  pw_flaw flaw = {.pgno = page->pgno, .tree = visit->tree_number, .fields = PW_HAS_SEEN};
  uint32_t at = visit->broken ? 0 : pw_get_be16(bytes + page->header + 1);
  while (at) { /* ascending, so the page's end bounds it */
    uint32_t next = 0, size = 0;
    int held = at >= page->content && at <= page->usable - 4;
    if (held) {
      next = pw_get_be16(bytes + at);
      size = pw_get_be16(bytes + at + 2);
      held = size >= 4 && at + size <= page->usable && (next == 0 || next >= at + size + 4);
    }
    if (!held) {
      flaw.kind = PW_FLAW_FREE_BLOCK;
      flaw.seen = at;
      pw_report(w, flaw);
      visit->flawed = 1;
      break;
    }
    visit->total += size;
    pw_space_use(w, visit, at, at + size);
    at = next;
  }
  if (visit->marked) {
    pw_space_use(w, visit, 0, 0);
  }
  if (visit->overlapping) {
    overlaps(w, visit, at);
  } else if (!visit->broken && !visit->flawed) {
    uint32_t claimed = bytes[page->header + 7];
    flaw.seen = (int64_t)page->usable - page->content - (int64_t)visit->total;
    if (flaw.seen != claimed) {
      flaw.kind = PW_FLAW_FRAGMENTS;
      flaw.fields |= PW_HAS_EXPECTED;
      flaw.expected = claimed;
      pw_report(w, flaw);
    }
  }
}
