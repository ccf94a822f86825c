/* The freelist (file format, section 1.5): trunk pages in a chain, each with the numbers of leaves that hold nothing. */
#include "walk.h"

static void count_check(pw_walking *w, const pw_part *part) {
  if (!part->broken && part->counted != part->expected) {
    pw_flaw flaw = {.kind = PW_FLAW_FREELIST_COUNT, .pgno = 1, .tree = PW_NO_TREE};
    flaw.fields = PW_HAS_EXPECTED | PW_HAS_SEEN;
    flaw.expected = (int64_t)part->expected;
    flaw.seen = (int64_t)part->counted;
    pw_report(w, flaw);
  }
}

/* Look at the next trunk page and its leaves. At the end of the chain the part is taken off the stack. */
pw_status pw_trunk_visit(pw_walking *w, pw_part *part) {
  const uint32_t trunk = part->page, most = w->walk->usable / 4 - 2;
  if (trunk == 0) {
    count_check(w, part);
    w->parts->count--;
    return PW_OK;
  }
  pw_pointer pointer = {.tree = PW_NO_TREE, .holder = part->next, .cell = UINT32_MAX, .map_type = 2};
  if (pw_pointer_take(w, trunk, &pointer) <= 0) {
    w->parts->count--;
    return (pw_status)w->fault->status;
  }
  uint8_t *bytes = w->slots; /* nothing else is on the stack */
  w->parts->held[0] = 0;
  pw_status status = pw_read(w->source, trunk, 1, bytes, w->walk->page_size, w->fault);
  if (status != PW_OK) {
    w->parts->count--;
    return pw_unreadable(w, status, trunk, &pointer);
  }
  uint32_t leaves = pw_get_be32(bytes + 4);
  if (leaves > most) {
    pw_flaw flaw = {.kind = PW_FLAW_FREELIST_TRUNK, .pgno = trunk, .tree = PW_NO_TREE, .expected = most};
    flaw.fields = PW_HAS_EXPECTED | PW_HAS_SEEN;
    flaw.seen = leaves;
    pw_report(w, flaw);
    part->broken = 1;
    leaves = 0;
  }
  pointer.holder = trunk;
  for (uint32_t i = 0; i < leaves; i++) {
    pointer.cell = i;
    if (pw_pointer_take(w, pw_get_be32(bytes + 8 + (size_t)4 * i), &pointer) < 0) {
      return (pw_status)w->fault->status;
    }
  }
  part->counted += (uint64_t)leaves + 1;
  part->next = trunk;
  part->page = pw_get_be32(bytes);
  return PW_OK;
}
