/* A look at the header of a record (file format, section 2.1), in the one place where it must be fast. */
#ifndef PAGEWARDEN_RECORD_H
#define PAGEWARDEN_RECORD_H

#include "walk.h"

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
  const uint32_t known = tree->columns, keys = tree->keys;
  uint64_t total = header, need = header;
  uint32_t wrong = 0, column = 0;
  while (next < end) {
    uint64_t serial = *next;
    if (serial < 0x80) {
      next++;
      total += pw_serial_size(serial);
    } else {
      next += pw_varint(next, &serial);
      if (next > end) {
        return PW_RECORD_BROKEN;
      }
      total += pw_serial_size(serial);
      total = total > INT64_MAX ? INT64_MAX : total;
    }
    wrong |= pw_serial_class(serial) & ~(uint32_t)(column < known ? allowed[column] : PW_CLASS_RESERVED - 1);
    if (++column == keys) {
      need = total;
    }
  }
  record->total = total > INT64_MAX ? INT64_MAX : total;
  record->need = column < keys ? record->total : need;
  record->columns = column;
  record->wrong = wrong;
  return PW_RECORD_WHOLE;
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
