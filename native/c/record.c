/* Telling apart what is wrong with a record: the slow side of record.h. */
#include "record.h"

static pw_flaw of_cell(const pw_visit *visit, const pw_cell *cell, uint32_t index, pw_flaw_kind kind) {
  pw_flaw flaw = {.kind = kind, .pgno = visit->page.pgno, .tree = visit->tree_number, .cell = index};
  flaw.fields = PW_HAS_CELL;
  if (!visit->tree->index) {
    flaw.fields |= PW_HAS_ROWID;
    flaw.rowid = cell->rowid;
  }
  return flaw;
}

/* Report each column that holds what it must not. */
static void columns(pw_walking *w, const pw_visit *visit, const pw_cell *cell, uint32_t index, const uint8_t *at,
                    const pw_record *record) {
  const uint8_t *allowed = w->walk->allowed + visit->tree->first;
  uint64_t serial;
  const uint8_t *next = at + pw_varint(at, &serial);
  for (uint32_t column = 0; column < record->columns; column++) {
    next += pw_varint(next, &serial);
    uint32_t may = column < visit->tree->columns ? allowed[column] : PW_CLASS_RESERVED - 1;
    uint32_t class = pw_serial_class(serial);
    if (!(class & ~may)) {
      continue;
    }
    pw_flaw flaw = of_cell(visit, cell, index, PW_FLAW_STRICT_TYPE);
    flaw.fields |= PW_HAS_COLUMN;
    flaw.column = column;
    if (class == PW_CLASS_NULL) {
      flaw.kind = PW_FLAW_NOT_NULL;
    } else {
      flaw.kind = class == PW_CLASS_RESERVED ? PW_FLAW_SERIAL_TYPE : PW_FLAW_STRICT_TYPE;
      flaw.fields |= PW_HAS_SEEN;
      flaw.seen = serial > INT64_MAX ? INT64_MAX : (int64_t)serial;
    }
    pw_report(w, flaw);
  }
}

/* Report everything that is wrong with a record; `state` and `record` are what pw_record_look gave. Returns whether its
** order can be judged. */
int pw_record_flaws(pw_walking *w, const pw_visit *visit, const pw_cell *cell, uint32_t index, const uint8_t *at,
                    pw_record_state state, const pw_record *record) {
  pw_flaw flaw = of_cell(visit, cell, index, PW_FLAW_RECORD_HEADER);
  flaw.fields |= PW_HAS_EXPECTED;
  flaw.expected = cell->payload;
  if (state != PW_RECORD_WHOLE) {
    if (state == PW_RECORD_BROKEN) {
      flaw.fields |= PW_HAS_SEEN;
      flaw.seen = record->header > INT64_MAX ? INT64_MAX : (int64_t)record->header;
    }
    pw_report(w, flaw);
    return 0;
  }
  if (record->wrong) {
    columns(w, visit, cell, index, at, record);
  }
  flaw.fields |= PW_HAS_SEEN;
  if (record->total != cell->payload) {
    flaw.seen = (int64_t)record->total;
    pw_report(w, flaw);
  }
  if (record->columns < visit->tree->keys) {
    flaw.fields |= PW_HAS_COLUMN;
    flaw.column = visit->tree->keys;
    flaw.expected = visit->tree->keys;
    flaw.seen = record->columns;
    pw_report(w, flaw);
  }
  return pw_record_comparable(visit->tree, record, cell->payload);
}
