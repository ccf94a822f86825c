/* The order of records is SQLite's: each list here ascends, and every pair of it is compared both ways. */
#include "check.h"

#include "../../../native/c/record.h"

#define MOST 64

/* A record of one column and a rowid, in an allocation of its own size. */
static uint8_t *record(uint8_t serial, const void *value, size_t size) {
  uint8_t *made = malloc(4 + size + PW_SLACK);
  CHECK(made != NULL);
  made[0] = 3;
  made[1] = serial;
  made[2] = 9; /* the integer 1 */
  if (size) {
    memcpy(made + 3, value, size);
  }
  return made;
}

static uint8_t *integer(int64_t n) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; i++) {
    bytes[i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
  }
  if (n == 0 || n == 1) {
    return record((uint8_t)(8 + n), bytes, 0);
  }
  static const struct {
    uint8_t serial, size;
  } kinds[] = {{1, 1}, {2, 2}, {3, 3}, {4, 4}, {5, 6}, {6, 8}};
  for (size_t i = 0; i < 5; i++) {
    int64_t most = INT64_C(1) << (8 * kinds[i].size - 1);
    if (n >= -most && n < most) {
      return record(kinds[i].serial, bytes + 8 - kinds[i].size, kinds[i].size);
    }
  }
  return record(6, bytes, 8);
}

static uint8_t *real(double number) {
  uint64_t bits;
  memcpy(&bits, &number, 8);
  uint8_t bytes[8];
  for (int i = 0; i < 8; i++) {
    bytes[i] = (uint8_t)(bits >> (56 - 8 * i));
  }
  return record(7, bytes, 8);
}

static uint8_t *text(const char *bytes, size_t size) { return record((uint8_t)(13 + 2 * size), bytes, size); }

static uint8_t *blob(const char *bytes, size_t size) { return record((uint8_t)(12 + 2 * size), bytes, size); }

static uint8_t *null(void) { return record(0, "", 0); }

static pw_comparison compare(uint32_t encoding, uint8_t order, const uint8_t *left, const uint8_t *right) {
  const uint8_t allowed[2] = {31, 31}, orders[2] = {order, 0};
  const pw_tree tree = {.root = 2, .columns = 2, .keys = 2, .index = 1};
  const pw_walk walk = {.encoding = encoding, .column_count = 2, .trees = &tree, .tree_count = 1,
                        .allowed = allowed, .orders = orders};
  return pw_keys_compare(&walk, &tree, left, right);
}

/* The records ascend; where `same` is set for one it equals the one before. */
static void ascends(uint32_t encoding, uint8_t order, uint8_t **records, const int *same, int count) {
  int rank[MOST], next = 0;
  for (int i = 0; i < count; i++) {
    rank[i] = i && same && same[i] ? next : ++next;
  }
  for (int i = 0; i < count; i++) {
    for (int j = 0; j < count; j++) {
      int wanted = rank[i] < rank[j] ? -1 : rank[i] > rank[j];
      CHECK((int)compare(encoding, order, records[i], records[j]) == wanted);
      CHECK((int)compare(encoding, order | PW_ORDER_DESCENDING, records[i], records[j]) == -wanted);
    }
  }
  for (int i = 0; i < count; i++) {
    free(records[i]);
  }
}

static void types_and_numbers(void) {
  uint8_t *list[] = {
      null(), real(-1e300), integer(INT64_MIN), real(-9223372036854774784.0), integer(INT64_MIN + 1025),
      integer(-(INT64_C(1) << 40)), integer(-40000), integer(-129), integer(-128), real(-1.5), integer(-1), real(-0.5),
      integer(0), real(0.25), integer(1), real(1.5), integer(2), integer(127), integer(128), integer(32768),
      integer(8388608), integer(INT64_C(1) << 31), integer(INT64_C(1) << 47), integer((INT64_C(1) << 53) - 1),
      real(9007199254740992.0), integer((INT64_C(1) << 53) + 1), real(9007199254740994.0), integer(INT64_MAX),
      real(9223372036854775808.0), real(1e300), text("", 0), text("\0", 1), text("A", 1), text("a", 1), text("a ", 2),
      text("aa", 2), text("\xc3\xa9", 2), blob("", 0), blob("\0", 1), blob("a", 1), blob("\xff", 1),
  };
  ascends(1, PW_ORDER_BINARY, list, NULL, (int)(sizeof list / sizeof *list));
  uint8_t *equal[] = {real(0.0), integer(0), integer(7), real(7.0), integer(INT64_MAX - 1023), real(9223372036854774784.0)};
  const int same[] = {0, 1, 0, 1, 0, 0};
  uint8_t *last = equal[5];
  CHECK(compare(1, 0, equal[4], last) == PW_EQUAL || compare(1, 0, equal[4], last) == PW_ABOVE);
  free(last);
  ascends(1, PW_ORDER_BINARY, equal, same, 5);
  uint8_t *nothing[] = {null(), record(7, "\x7f\xf8\0\0\0\0\0\0", 8), integer(-5)}; /* a NaN is read as NULL */
  const int nan_same[] = {0, 1, 0};
  ascends(1, PW_ORDER_BINARY, nothing, nan_same, 3);
}

static void nocase(void) {
  uint8_t *list[] = {text("", 0), text("[", 1), text("_", 1), text("A", 1), text("a", 1), text("AB", 2), text("b\0x", 3),
                     text("B\0y", 3), text("b\0xx", 4), text("BA", 2), text("{", 1), text("\xc3\x89", 2),
                     text("\xc3\xa9", 2)};
  const int same[] = {0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0};
  ascends(1, PW_ORDER_NOCASE, list, same, 13);
  /* UTF-16le: A a b; then beyond the BMP, whose UTF-16 units sort below U+E000 but whose code points do not */
  uint8_t *wide[] = {text("A\0", 2), text("a\0", 2), text("b\0", 2), text("\xe9\0", 2), text("\xff\xff", 2),
                     text("\x3d\xd8\0\xdc", 4)};
  const int wide_same[] = {0, 1, 0, 0, 0, 0};
  ascends(2, PW_ORDER_NOCASE, wide, wide_same, 6);
  uint8_t *big[] = {text("\0A", 2), text("\0a", 2), text("\0b", 2), text("\xff\xff", 2), text("\xd8\x3d\xdc\0", 4)};
  ascends(3, PW_ORDER_NOCASE, big, wide_same, 5);
}

static void rtrim(void) {
  uint8_t *list[] = {text("", 0), text("   ", 3), text(" a", 2), text("a", 1), text("a  ", 3), text("a b ", 4),
                     text("b", 1)};
  const int same[] = {0, 1, 0, 0, 1, 0, 0};
  ascends(1, PW_ORDER_RTRIM, list, same, 7);
  uint8_t *little[] = {text("", 0), text(" \0 \0", 4), text("a\0", 2), text("a\0 \0", 4), text("\0 ", 2)};
  const int little_same[] = {0, 1, 0, 1, 0};
  ascends(2, PW_ORDER_RTRIM, little, little_same, 5);
  uint8_t *big[] = {text("\0 \0 ", 4), text("\0a", 2), text("\0a\0 ", 4), text(" \0", 2)};
  const int big_same[] = {0, 0, 1, 0};
  ascends(3, PW_ORDER_RTRIM, big, big_same, 4);
}

static void what_cannot_be_judged(void) {
  uint8_t *odd = text("abc", 3), *lone = text("\0\xdc", 2), *high = text("\x3d\xd8", 2), *cut = text("\x3d\xd8" "a\0", 4);
  uint8_t *sound = text("a\0", 2);
  uint8_t *invalid[] = {odd, lone, high, cut};
  for (int i = 0; i < 4; i++) {
    for (uint8_t order = PW_ORDER_NOCASE; order <= PW_ORDER_RTRIM; order++) {
      CHECK(compare(2, order, invalid[i], sound) == PW_UNDECIDED);
      CHECK(compare(2, order | PW_ORDER_DESCENDING, sound, invalid[i]) == PW_UNDECIDED);
    }
    CHECK(compare(2, PW_ORDER_BINARY, invalid[i], sound) != PW_UNDECIDED);
    CHECK(compare(2, PW_ORDER_UNKNOWN, sound, sound) == PW_UNDECIDED);
    free(invalid[i]);
  }
  free(sound);
}

/* Sizes that add up to more than 2^64 must not go round to that of the payload: found by fuzzing. */
static void sums_do_not_go_round(void) {
  const uint8_t may[3] = {31, 31, 31}, order[3] = {0};
  const pw_tree tree = {.root = 2, .columns = 3, .keys = 3, .index = 1};
  const pw_walk walk = {.encoding = 1, .column_count = 3, .trees = &tree, .tree_count = 1, .allowed = may, .orders = order};
  uint8_t *made = calloc(49 + PW_SLACK, 1);
  CHECK(made != NULL);
  made[0] = 20;
  memset(made + 1, 0xff, 9); /* 2^63 - 7 bytes */
  made[10] = 0x7e;           /* 57 bytes */
  memset(made + 11, 0xff, 9);
  for (uint32_t payload = 20; payload <= 49; payload++) {
    pw_record found;
    CHECK(pw_record_look(&walk, &tree, made, payload, payload, &found) == PW_RECORD_WHOLE);
    CHECK(found.total == INT64_MAX && found.columns == 3 && !pw_record_comparable(&tree, &found, payload));
  }
  free(made);
}

int main(void) {
  types_and_numbers();
  nocase();
  rtrim();
  what_cannot_be_judged();
  sums_do_not_go_round();
  return 0;
}
