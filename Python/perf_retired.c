/* Slots of code objects that have died, by the names of the functions.

   A perf map has no times, so an address that it names never gets a different name.
   Without more, each function that a program makes takes a slot and a line of the map
   for ever.  But programs execute the same source again and again: templates,
   namedtuples, plug-ins.  The functions that come from it have the same names.  What
   the map says of the address of the old one is true of the new one, too.

       name and file of the function --> retired --> slot --> slot --> ...

   A program whose functions all have different names must not pay much for that.  So
   names are only added to the table.  If it is full, it becomes twice as large, up to
   about 8,000 names of ordinary length.  Then it becomes the table before, whose place
   an empty one takes, and the names of the one that was before are dropped.  A name in
   use is not lost: a slot that is taken from the table before comes back to the current
   one.  Long names are not kept.  Most lookups are of names that are not there, so a
   bucket itself says which ones cannot be in it.

   A jitdump has times, so any function could use the slot of one that has died.  But
   its file would grow by the records of each function, and "perf inject" makes a file
   of each.  Therefore a slot is kept there, too, if a function with the same name, file
   and line has died before.  Of the first one only two bits of a filter remain, so that
   a program whose functions all differ pays little.  */

#include "Python.h"
#include "pycore_perf_base.h"       // _PyPerfBase_IsReady()
#include "pycore_perf_retired.h"

#define SMALLEST_TABLE ((size_t)256)    // buckets
#define LARGEST_TABLE ((size_t)8 * 1024)

/* Bytes in a table for each bucket: a name of ordinary length. */
#define NAME_SIZE ((size_t)80)

/* Bytes of a name and a file.  This is about ten times what is usual. */
#define KEY_SIZE_MAX ((size_t)1024)

static_assert(LARGEST_TABLE * NAME_SIZE < UINT32_MAX, "bucket.first has 32 bits");

/* A string, as the interpreter stores its characters. */
struct characters {
    const void *data;
    uint16_t size;                  // bytes
    uint16_t kind;                  // bytes of a character
};

#define NO_LINE (-1)

struct key {
    Py_uhash_t hash;
    int first_line;                 // in a jitdump; NO_LINE: in a map
    struct characters qualname;
    struct characters filename;
};

/* A name, and slots whose entries have it. */
struct retired {
    struct _PyPerfSlot *slots;      // linked by next_free; NULL: all are in use
    Py_uhash_t hash;
    uint32_t next;                  // in the same bucket; as bucket.first
    uint16_t sizes[2];              // of the qualified name and the file, bytes
    uint16_t kinds[2];
    int first_line;                 // as key.first_line
    char text[];                    // the characters of both
};

struct bucket {
    uint32_t filter;                // the filter_bit() of each name in it
    uint32_t first;                 // where the newest one is, bytes + 1; 0: none
};

struct table {
    size_t count;                   // of buckets, a power of 2
    size_t used;                    // bytes of names
    struct bucket buckets[];        // the names come after them
};

static struct table *current, *before;      // NULL: none yet

#define DEAD_BITS 17                // of the number of a bit
#define DEAD_MAX (8 * 1024)         // functions

/* A Bloom filter of the functions that have died in a jitdump.  It is emptied when one
   of sixty new functions would be taken for an old one. */
static struct {
    unsigned int count;             // of functions
    unsigned char bits[1 << (DEAD_BITS - 3)];
} dead;


// --- Keys ------------------------------------------------------------------

/* Fill in *characters, which borrows those of `string`.  Adds their bytes to *size.
   Returns false if *size is too large then. */
static bool
characters_borrow(struct characters *characters, PyObject *string, size_t *size)
{
    const size_t kind = (size_t)PyUnicode_KIND(string);
    const size_t length = (size_t)PyUnicode_GET_LENGTH(string);
    if (length > KEY_SIZE_MAX || *size + length * kind > KEY_SIZE_MAX) {
        return false;
    }
    characters->data = PyUnicode_DATA(string);
    characters->kind = (uint16_t)kind;
    characters->size = (uint16_t)(length * kind);
    *size += length * kind;
    return true;
}

/* Return the hash of a string, which keeps it.  The class of the string may be derived
   from str and have a function for it that we must not call. */
static Py_uhash_t
string_hash(PyObject *string)
{
    return (Py_uhash_t)PyUnicode_Type.tp_hash(string);
}

/* Let each bit depend on all (Fibonacci hashing).  Where CPython uses FNV for strings,
   names that differ at the end have hashes that differ in few bits. */
static uint64_t
hash_mix(uint64_t hash)
{
    hash *= 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

/* Begin the key of `code` in outputs with timestamps or without.  key_borrow() adds the
   characters.  Returns false if they cannot be read. */
static bool
key_begin(struct key *key, const PyCodeObject *code, bool has_time)
{
    if (!_PyPerfBase_IsReady(code->co_qualname)
            || !_PyPerfBase_IsReady(code->co_filename)) {
        return false;
    }
    key->first_line = has_time ? Py_MAX(code->co_firstlineno, 0) : NO_LINE;
    uint64_t hash = hash_mix(string_hash(code->co_qualname));
    hash = hash_mix(hash ^ string_hash(code->co_filename));
    key->hash = (Py_uhash_t)hash_mix(hash ^ (uint64_t)key->first_line);
    return true;
}

/* Let *key borrow the characters of the names of `code`.  Returns false if they are too
   long. */
static bool
key_borrow(struct key *key, const PyCodeObject *code)
{
    size_t size = 0;
    return characters_borrow(&key->qualname, code->co_qualname, &size)
           && characters_borrow(&key->filename, code->co_filename, &size);
}

static bool
retired_has_key(const struct retired *retired, const struct key *key)
{
    return retired->hash == key->hash
           && retired->first_line == key->first_line
           && retired->sizes[0] == key->qualname.size
           && retired->sizes[1] == key->filename.size
           && retired->kinds[0] == key->qualname.kind
           && retired->kinds[1] == key->filename.kind
           && memcmp(retired->text, key->qualname.data, key->qualname.size) == 0
           && memcmp(retired->text + key->qualname.size, key->filename.data,
                     key->filename.size) == 0;
}

/* Return the bytes that names of these sizes take in a table. */
static size_t
retired_size(const uint16_t sizes[2])
{
    const size_t align = _Alignof(struct retired);
    const size_t size = offsetof(struct retired, text) + sizes[0] + sizes[1];
    return (size + align - 1) / align * align;
}


// --- Tables ----------------------------------------------------------------

static struct bucket *
table_bucket(struct table *table, Py_uhash_t hash)
{
    return &table->buckets[hash & (table->count - 1)];
}

/* Return one of 32 bits.  Most names in a bucket have different ones. */
static uint32_t
filter_bit(Py_uhash_t hash)
{
    return (uint32_t)1 << (hash >> (8 * sizeof(hash) - 5));
}

/* Return the name at this offset in the names of `table`. */
static struct retired *
table_name(struct table *table, size_t offset)
{
    return (void *)((char *)&table->buckets[table->count] + offset);
}

/* Return what `table` has for the key, or NULL.  `table` may be NULL. */
static struct retired *
table_get(struct table *table, const struct key *key)
{
    if (table == NULL) {
        return NULL;
    }
    const struct bucket *bucket = table_bucket(table, key->hash);
    if ((bucket->filter & filter_bit(key->hash)) == 0) {
        return NULL;
    }
    for (uint32_t place = bucket->first; place != 0;) {
        struct retired *retired = table_name(table, place - 1);
        if (retired_has_key(retired, key)) {
            return retired;
        }
        place = retired->next;
    }
    return NULL;
}

/* Make `table`, which may be new, empty. */
static void
table_clear(struct table *table)
{
    memset(table->buckets, 0, table->count * sizeof(table->buckets[0]));
    table->used = 0;
}

/* Return an empty table, or NULL if there is no memory. */
static struct table *
table_new(size_t count)
{
    struct table *table = PyMem_RawMalloc(
        sizeof(*table) + count * (sizeof(table->buckets[0]) + NAME_SIZE));
    if (table != NULL) {
        table->count = count;
        table_clear(table);
    }
    return table;
}

/* Free the slots of a name, as far as they may get a different one. */
static void
slots_free(struct _PyPerfSlot *slot)
{
    while (slot != NULL) {
        struct _PyPerfSlot *next = slot->next_free;
        if (!slot->is_final) {
            _PyPerfArena_FreeSlot(slot);
        }
        slot = next;
    }
}

/* Free the slots of all names in `table`. */
static void
table_free_slots(struct table *table)
{
    for (size_t offset = 0; offset < table->used;) {
        const struct retired *retired = table_name(table, offset);
        slots_free(retired->slots);
        offset += retired_size(retired->sizes);
    }
}

/* Take the next `size` bytes of `table`, which has room for them, for a name with this
   hash. */
static struct retired *
table_link(struct table *table, size_t size, Py_uhash_t hash)
{
    struct retired *retired = table_name(table, table->used);
    struct bucket *bucket = table_bucket(table, hash);
    retired->hash = hash;
    retired->next = bucket->first;
    bucket->first = (uint32_t)table->used + 1;
    bucket->filter |= filter_bit(hash);
    table->used += size;
    return retired;
}

/* Make the current table twice as large.  Returns false if there is no memory. */
static bool
current_enlarge(void)
{
    struct table *larger = table_new(current->count * 2);
    if (larger == NULL) {
        return false;
    }
    for (size_t offset = 0; offset < current->used;) {
        const struct retired *old = table_name(current, offset);
        const size_t size = retired_size(old->sizes);
        struct retired *copy = table_link(larger, size, old->hash);
        copy->slots = old->slots;
        memcpy(copy->sizes, old->sizes, size - offsetof(struct retired, sizes));
        offset += size;
    }
    PyMem_RawFree(current);
    current = larger;
    return true;
}

/* Make an empty table the current one.  The names of the one before are dropped.
   Returns false if there is no memory. */
static bool
current_replace(void)
{
    struct table *empty = before;
    if (empty == NULL) {
        empty = table_new(current == NULL ? SMALLEST_TABLE : LARGEST_TABLE);
        if (empty == NULL) {
            return false;
        }
    }
    else {
        table_free_slots(empty);
        table_clear(empty);
    }
    before = current;
    current = empty;
    return true;
}

/* Make sure that the current table has room for `size` bytes of names.  Returns false
   if there is no memory. */
static bool
current_make_room(size_t size)
{
    if (current != NULL && size <= current->count * NAME_SIZE - current->used) {
        return true;
    }
    return current != NULL && current->count < LARGEST_TABLE ? current_enlarge()
                                                             : current_replace();
}

/* Add a key that the current table does not have.  Returns NULL if there is no
   memory. */
static struct retired *
table_add(const struct key *key)
{
    const uint16_t sizes[2] = {key->qualname.size, key->filename.size};
    const size_t size = retired_size(sizes);
    if (!current_make_room(size)) {
        return NULL;
    }
    struct retired *retired = table_link(current, size, key->hash);
    retired->slots = NULL;
    memcpy(retired->sizes, sizes, sizeof(sizes));
    retired->kinds[0] = key->qualname.kind;
    retired->kinds[1] = key->filename.kind;
    retired->first_line = key->first_line;
    memcpy(retired->text, key->qualname.data, key->qualname.size);
    memcpy(retired->text + key->qualname.size, key->filename.data, key->filename.size);
    return retired;
}

/* Take a slot that this process may use from *retired, which may be NULL.  Returns NULL
   if there is none. */
static struct _PyPerfSlot *
retired_take(struct retired *retired)
{
    while (retired != NULL && retired->slots != NULL) {
        struct _PyPerfSlot *slot = retired->slots;
        retired->slots = slot->next_free;
        if (slot->number > _PyPerf_Pool.last_inherited) {
            return slot;
        }
    }
    return NULL;
}


// --- Functions that have died in a jitdump ---------------------------------

/* Return whether the filter has this bit, one of two for each hash. */
static bool
dead_has_bit(Py_uhash_t hash)
{
    return (dead.bits[hash / 8 % sizeof(dead.bits)] >> (hash % 8) & 1) != 0;
}

static void
dead_set_bit(Py_uhash_t hash)
{
    dead.bits[hash / 8 % sizeof(dead.bits)] |= (unsigned char)(1 << (hash % 8));
}

/* Return whether a function with this key has died, or others with its bits. */
static bool
dead_has_key(const struct key *key)
{
    return dead_has_bit(key->hash) && dead_has_bit(key->hash >> DEAD_BITS);
}

static void
dead_add_key(const struct key *key)
{
    if (dead.count == DEAD_MAX) {
        memset(&dead, 0, sizeof(dead));
    }
    dead.count++;
    dead_set_bit(key->hash);
    dead_set_bit(key->hash >> DEAD_BITS);
}


// --- What others use -------------------------------------------------------

bool
_PyPerfRetired_Keep(struct _PyPerfSlot *slot, const PyCodeObject *code)
{
    struct key key;
    const bool has_time = !slot->is_final;
    // A narrow slot that no map names has no room for unwind information.
    if ((has_time && slot->is_narrow) || !key_begin(&key, code, has_time)) {
        return false;
    }
    if (has_time && !dead_has_key(&key)) {
        dead_add_key(&key);
        return false;
    }
    if (!key_borrow(&key, code)) {
        return false;
    }
    struct retired *retired = table_get(current, &key);
    if (retired == NULL) {
        retired = table_add(&key);
    }
    if (retired == NULL) {
        return false;
    }
    slot->next_free = retired->slots;
    retired->slots = slot;
    return true;
}

struct _PyPerfSlot *
_PyPerfRetired_Take(const PyCodeObject *code, bool has_time)
{
    struct key key;
    if (current == NULL || !key_begin(&key, code, has_time)
            || (has_time && !dead_has_key(&key)) || !key_borrow(&key, code)) {
        return NULL;
    }
    struct _PyPerfSlot *slot = retired_take(table_get(current, &key));
    return slot != NULL ? slot : retired_take(table_get(before, &key));
}
