/* The comparison of two records, which must hold before they are compared. seeds: noise
**
** The first 4 bytes are the encoding, the number of columns, and the orders; then come both records, each with its
** length. A comparison is the opposite of the one with exchanged sides, and a record equals itself. */
#include "common/memory.h"

#include "../c/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 7) {
    return 0;
  }
  const uint8_t allowed[4] = {31, 31, 31, 31};
  const uint8_t orders[4] = {data[2] & 7, data[2] >> 3 & 7, data[3] & 7, data[3] >> 3 & 7};
  const pw_tree tree = {.root = 2, .columns = 4, .keys = data[1] % 4 + 1u, .index = 1};
  const pw_walk walk = {.encoding = data[0] % 3 + 1u, .allowed = allowed, .orders = orders, .column_count = 4};
  size_t left = (size_t)data[4] << 8 | data[5];
  data += 6;
  size -= 6;
  if (left > size) {
    left = left % (size + 1);
  }
  uint8_t *records[2];
  const size_t sizes[2] = {left, size - left};
  int sound = 1;
  for (int i = 0; i < 2; i++) {
    records[i] = calloc(sizes[i] + PW_SLACK, 1);
    HOLDS(records[i] != NULL);
    memcpy(records[i], i ? data + left : data, sizes[i]);
    pw_record record;
    pw_record_state found = pw_record_look(&walk, &tree, records[i], sizes[i], (uint32_t)sizes[i], &record);
    sound &= found == PW_RECORD_WHOLE && pw_record_comparable(&tree, &record, (uint32_t)sizes[i]);
    if (found == PW_RECORD_WHOLE && record.total == sizes[i]) {
      HOLDS(record.need <= record.total);
    }
  }
  if (sound) {
    pw_comparison one = pw_keys_compare(&walk, &tree, records[0], records[1]);
    pw_comparison other = pw_keys_compare(&walk, &tree, records[1], records[0]);
    HOLDS(one == PW_UNDECIDED ? other == PW_UNDECIDED : (int)one == -(int)other);
    pw_comparison same = pw_keys_compare(&walk, &tree, records[0], records[0]);
    HOLDS(same == PW_EQUAL || same == PW_UNDECIDED);
  }
  free(records[0]);
  free(records[1]);
  return 0;
}
