/* SQLite's comparison of records: NULL < numbers < texts < BLOBs, each column by its collation and direction.
** https://www.sqlite.org/fileformat2.html#record_sort_order; details as in sqlite3VdbeRecordCompare of SQLite's vdbeaux.c
** and the collations of main.c. */
#include "record.h"

/* A value in a record. */
typedef struct {
  uint64_t serial;
  const uint8_t *at;
  uint32_t size;
} value;

/* An integer of 1 to 8 bytes; those behind it are slack at least. */
static inline int64_t number_at(const uint8_t *at, uint32_t size) {
  uint64_t n;
  memcpy(&n, at, sizeof n);
  n = PW_LITTLE_ENDIAN ? pw_swap64(n) : n;
  return (int64_t)n >> (64 - 8 * size); /* the sign goes on to the left */
}

static int64_t integer(const value *v) {
  return v->serial >= 8 ? (int64_t)v->serial - 8 : number_at(v->at, v->size);
}

static double real(const value *v) {
  uint64_t bits = (uint64_t)pw_get_be32(v->at) << 32 | pw_get_be32(v->at + 4);
  double number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

static pw_comparison sign(int64_t difference) {
  return difference < 0 ? PW_BELOW : difference > 0 ? PW_ABOVE : PW_EQUAL;
}

/* An integer against a real that is a number, exactly (sqlite3IntFloatCompare). */
static pw_comparison mixed(int64_t left, double right) {
  if (right < -9223372036854775808.0) {
    return PW_ABOVE;
  }
  if (right >= 9223372036854775808.0) {
    return PW_BELOW;
  }
  int64_t whole = (int64_t)right;
  if (left != whole) {
    return left < whole ? PW_BELOW : PW_ABOVE;
  }
  double exact = (double)left; /* where this rounds, `right` has no fraction */
  return exact < right ? PW_BELOW : exact > right ? PW_ABOVE : PW_EQUAL;
}

/* 0 NULL, 1 number, 2 text, 3 BLOB. A NaN is read as NULL. */
static uint32_t rank(const value *v) {
  if (v->serial >= 12) {
    return 3 - (uint32_t)(v->serial & 1);
  }
  if (v->serial == 7) {
    double number = real(v);
    return number == number;
  }
  return v->serial != 0;
}

static pw_comparison numbers(const value *left, const value *right) {
  if (left->serial == 7 && right->serial == 7) {
    double a = real(left), b = real(right);
    return a < b ? PW_BELOW : a > b ? PW_ABOVE : PW_EQUAL;
  }
  if (left->serial == 7) {
    return (pw_comparison) - (int)mixed(integer(right), real(left));
  }
  if (right->serial == 7) {
    return mixed(integer(left), real(right));
  }
  int64_t a = integer(left), b = integer(right);
  return a < b ? PW_BELOW : a > b ? PW_ABOVE : PW_EQUAL;
}

static pw_comparison bytes(const uint8_t *left, uint32_t left_size, const uint8_t *right, uint32_t right_size) {
  int difference = memcmp(left, right, left_size < right_size ? left_size : right_size);
  return sign(difference ? difference : (int64_t)left_size - right_size);
}

static uint32_t fold(uint32_t point) { return point >= 'A' && point <= 'Z' ? point + 32 : point; }

/* sqlite3StrNICmp over the shorter length, then the lengths: what stands behind a NUL that both have does not count. */
static pw_comparison nocase(const value *left, const value *right) {
  const uint32_t size = left->size < right->size ? left->size : right->size;
  for (uint32_t i = 0; i < size; i++) {
    uint32_t a = fold(left->at[i]), b = fold(right->at[i]);
    if (a != b) {
      return sign((int64_t)a - b);
    }
    if (a == 0) {
      break;
    }
  }
  return sign((int64_t)left->size - right->size);
}

/* The code point at `*at`, which moves on; UINT32_MAX where the text is not valid. */
static uint32_t utf16_next(const uint8_t **at, const uint8_t *end, int big) {
  const uint8_t *from = *at;
  if (end - from < 2) {
    return UINT32_MAX;
  }
  uint32_t unit = big ? pw_get_be16(from) : (uint32_t)from[1] << 8 | from[0];
  *at = from + 2;
  if (unit < 0xd800 || unit > 0xdfff) {
    return unit;
  }
  if (unit > 0xdbff || end - from < 4) {
    return UINT32_MAX;
  }
  uint32_t low = big ? pw_get_be16(from + 2) : (uint32_t)from[3] << 8 | from[2];
  *at = from + 4;
  return low < 0xdc00 || low > 0xdfff ? UINT32_MAX : 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

/* The length that a text has in UTF-8, or -1 where it is not valid UTF-16. */
static int64_t utf8_size(const value *v, int big) {
  const uint8_t *at = v->at, *end = v->at + v->size;
  int64_t size = 0;
  while (at < end) {
    uint32_t point = utf16_next(&at, end, big);
    if (point == UINT32_MAX) {
      return -1;
    }
    size += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return size;
}

/* NOCASE or RTRIM over UTF-16, which SQLite converts to UTF-8: the order of UTF-8 bytes is that of code points. */
static pw_comparison utf16(const value *left, const value *right, int folded, int big) {
  int64_t left_size = utf8_size(left, big), right_size = utf8_size(right, big);
  if (left_size < 0 || right_size < 0) {
    return PW_UNDECIDED;
  }
  const uint8_t *a = left->at, *a_end = a + left->size, *b = right->at, *b_end = b + right->size;
  while (a < a_end && b < b_end) {
    uint32_t x = utf16_next(&a, a_end, big), y = utf16_next(&b, b_end, big);
    x = folded ? fold(x) : x;
    y = folded ? fold(y) : y;
    if (x != y) {
      return x < y ? PW_BELOW : PW_ABOVE;
    }
    if (folded && x == 0) {
      break;
    }
  }
  return sign(left_size - right_size);
}

static void trim(value *v, uint32_t encoding) {
  const uint32_t step = encoding == 1 ? 1 : 2;
  while (v->size >= step && v->at[v->size - (encoding == 3 ? 1 : step)] == ' ' &&
         (step == 1 || v->at[v->size - (encoding == 3 ? 2 : 1)] == 0)) {
    v->size -= step;
  }
}

static pw_comparison texts(uint32_t encoding, uint32_t collation, value left, value right) {
  if (collation == PW_ORDER_BINARY) {
    return bytes(left.at, left.size, right.at, right.size);
  }
  if (encoding != 1 && (utf8_size(&left, encoding == 3) < 0 || utf8_size(&right, encoding == 3) < 0)) {
    return PW_UNDECIDED;
  }
  if (collation == PW_ORDER_RTRIM) {
    trim(&left, encoding);
    trim(&right, encoding);
  }
  if (encoding != 1) {
    return utf16(&left, &right, collation == PW_ORDER_NOCASE, encoding == 3);
  }
  return collation == PW_ORDER_NOCASE ? nocase(&left, &right) : bytes(left.at, left.size, right.at, right.size);
}

static __attribute__((noinline)) pw_comparison values(uint32_t encoding, uint32_t collation, const value *left, const value *right) {
  const uint32_t a = rank(left), b = rank(right);
  if (a != b) {
    return a < b ? PW_BELOW : PW_ABOVE;
  }
  switch (a) {
  case 0:
    return PW_EQUAL;
  case 1:
    return numbers(left, right);
  case 2:
    return texts(encoding, collation, *left, *right);
  default:
    return bytes(left->at, left->size, right->at, right->size);
  }
}

/* Read a serial type, and the size of its value, which is no larger than a payload; returns the bytes it takes. */
PW_ALWAYS_INLINE uint32_t take(const uint8_t *types, uint64_t *serial, uint32_t *size) {
  if (*types < 0x80) {
    *serial = *types;
    *size = pw_small_serial(*types).size;
    return 1;
  }
  const uint32_t taken = pw_varint(types, serial);
  *size = (uint32_t)pw_serial_size(*serial);
  return taken;
}

/* Compare the first `keys` columns of two records that hold (record.h) and are there as far as these columns go. What
** keys mostly are, numbers and texts in their own order, is told here; `values` knows the rest. */
pw_comparison pw_keys_compare(const pw_walk *walk, const pw_tree *tree, const uint8_t *left, const uint8_t *right) {
  const uint8_t *orders = walk->orders + tree->first, *past = orders + tree->keys;
  uint64_t header;
  const uint8_t *a_types = left + pw_varint(left, &header), *a = left + header;
  const uint8_t *b_types = right + pw_varint(right, &header), *b = right + header;
  for (; orders < past; orders++) {
    uint64_t a_serial, b_serial;
    uint32_t a_size, b_size;
    a_types += take(a_types, &a_serial, &a_size);
    b_types += take(b_types, &b_serial, &b_size);
    const uint32_t collation = *orders & 3;
    if (collation == PW_ORDER_UNKNOWN) {
      return PW_UNDECIDED;
    }
    pw_comparison found;
    if (a_serial - 1 < 6 && b_serial - 1 < 6) {
      const int64_t x = number_at(a, a_size), y = number_at(b, b_size);
      found = x < y ? PW_BELOW : x > y ? PW_ABOVE : PW_EQUAL;
    } else if (collation == PW_ORDER_BINARY && a_serial >= 13 && b_serial >= 13 && (a_serial & b_serial & 1)) {
      found = bytes(a, a_size, b, b_size);
    } else {
      const value one = {a_serial, a, a_size}, other = {b_serial, b, b_size};
      found = values(walk->encoding, collation, &one, &other);
    }
    if (found != PW_EQUAL) {
      return found == PW_UNDECIDED || !(*orders & PW_ORDER_DESCENDING) ? found : (pw_comparison) - (int)found;
    }
    a += a_size;
    b += b_size;
  }
  return PW_EQUAL;
}
