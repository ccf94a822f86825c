/* A look at the header of a record (file format, section 2.1), in the one place where it must be fast. */
#ifndef PAGEWARDEN_RECORD_H
#define PAGEWARDEN_RECORD_H

#include "walk.h"

/* Size and class of a serial type that one byte holds. */
typedef struct {
  uint8_t size, class;
} pw_serial;

PW_ALWAYS_INLINE pw_serial pw_small_serial(uint8_t type) {
#define PAIR(n) {(n) / 2 - 6, PW_CLASS_BLOB}, {(n) / 2 - 6, PW_CLASS_TEXT}
#define PAIRS(n) PAIR(n), PAIR((n) + 2), PAIR((n) + 4), PAIR((n) + 6)
  static const pw_serial serials[128] = {
      {0, PW_CLASS_NULL}, {1, PW_CLASS_INTEGER}, {2, PW_CLASS_INTEGER}, {3, PW_CLASS_INTEGER}, {4, PW_CLASS_INTEGER},
      {6, PW_CLASS_INTEGER}, {8, PW_CLASS_INTEGER}, {8, PW_CLASS_REAL}, {0, PW_CLASS_INTEGER}, {0, PW_CLASS_INTEGER},
      {0, PW_CLASS_RESERVED}, {0, PW_CLASS_RESERVED}, PAIR(12), PAIR(14), PAIRS(16), PAIRS(24), PAIRS(32), PAIRS(40),
      PAIRS(48), PAIRS(56), PAIRS(64), PAIRS(72), PAIRS(80), PAIRS(88), PAIRS(96), PAIRS(104), PAIRS(112), PAIRS(120)};
#undef PAIR
#undef PAIRS
  return serials[type];
}

/* Take one serial type off a header; 0 where it runs past the end. */
PW_ALWAYS_INLINE int pw_record_take(const uint8_t **next, const uint8_t *end, uint32_t may, uint64_t *total,
                                    uint32_t *wrong) {
  if (**next < 0x80) {
    const pw_serial small = pw_small_serial(*(*next)++);
    *total += small.size;
    *wrong |= small.class & ~may;
    return 1;
  }
  uint64_t serial;
  *next += pw_varint(*next, &serial);
  *total = *total > INT64_MAX ? INT64_MAX : *total; /* small ones may have gone past: the sum must not go round */
  *total += pw_serial_size(serial);
  *total = *total > INT64_MAX ? INT64_MAX : *total;
  *wrong |= pw_serial_class(serial) & ~may;
  return *next <= end;
}

/* Look at a record of `payload` bytes of which `there` are at `at`. `record` is filled as far as it goes: `header`
** unless there is no length, the rest if the header is whole. */
PW_ALWAYS_INLINE pw_record_state pw_record_look(const pw_walk *walk, const pw_tree *tree, const uint8_t *at,
                                                uint64_t there, uint32_t payload, pw_record *record) {
  uint64_t header;
  uint32_t taken = pw_varint(at, &header);
  if (taken > payload) {
    return PW_RECORD_NO_LENGTH;
  }
  record->header = header;
  if (header < taken || header > payload || header > PW_MAX_HEADER) {
    return PW_RECORD_BROKEN;
  }
  if (header > there) {
    return PW_RECORD_ELSEWHERE;
  }
  const uint8_t *next = at + taken, *end = at + header;
  const uint8_t *allowed = walk->allowed + tree->first;
  const uint32_t keys = tree->keys;
  uint64_t total = header, need = header;
  uint32_t wrong = 0, column = 0;
  for (const uint32_t known = tree->columns; column < known && next < end; column++) {
    if (!pw_record_take(&next, end, allowed[column], &total, &wrong)) {
      return PW_RECORD_BROKEN;
    }
    need = column + 1 == keys ? total : need;
  }
  for (; next < end; column++) { /* more columns than are known: keys are among those */
    if (!pw_record_take(&next, end, PW_CLASS_RESERVED - 1u, &total, &wrong)) {
      return PW_RECORD_BROKEN;
    }
  }
  record->total = total > INT64_MAX ? INT64_MAX : total;
  record->need = column < keys ? record->total : need;
  record->columns = column;
  record->wrong = wrong;
  return PW_RECORD_WHOLE;
}

/* Whether nothing is wrong with a record that is all there; 0 may also mean that its header is long or odd. `refused` has
** for each of 64 columns the pw_class bits that it must not have. */
PW_ALWAYS_INLINE int pw_record_quick(const uint8_t *refused, uint32_t keys, const uint8_t *at, uint32_t payload) {
  const uint8_t *next = at + 1, *end = at + at[0], *column = refused;
  uint32_t total = at[0], wrong = 0;
  if (total - 1 >= PW_QUICK || total > payload) {
    return 0;
  }
  while (next < end) {
    uint32_t serial = *next++;
    if (serial < 0x80) {
      const pw_serial small = pw_small_serial((uint8_t)serial);
      total += small.size;
      wrong |= small.class & *column++;
    } else {
      serial = (serial & 0x7f) << 7 | *next;
      if (*next++ >= 0x80 || serial < 12) {
        return 0;
      }
      total += (serial - 12) / 2;
      wrong |= (serial & 1 ? PW_CLASS_TEXT : PW_CLASS_BLOB) & *column++;
    }
  }
  return !wrong && total == payload && next == end && (uint32_t)(column - refused) >= keys;
}

/* Whether nothing is wrong with a record whose header is whole. */
PW_ALWAYS_INLINE int pw_record_holds(const pw_tree *tree, const pw_record *record, uint32_t payload) {
  return !record->wrong && record->total == payload && record->columns >= tree->keys;
}

/* Whether the order of a record whose header is whole can be judged. */
PW_ALWAYS_INLINE int pw_record_comparable(const pw_tree *tree, const pw_record *record, uint32_t payload) {
  return !(record->wrong & PW_CLASS_RESERVED) && record->total == payload && record->columns >= tree->keys;
}

#endif
