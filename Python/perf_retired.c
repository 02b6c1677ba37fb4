/* Slots of code objects that have died, by the names of the functions.

   A perf map has no times, so an address that it names never gets a different name.
   Without more, each function that a program makes takes a slot and a line of the map
   for ever.  But programs execute the same source again and again: templates,
   namedtuples, plug-ins.  The functions that come from it have the same names.  What
   the map says of the address of the old one is true of the new one, too.

       name and file of the function --> retired --> slot --> slot --> ...

   The table holds the last KEYS_MAX names, and only short ones, so that it cannot grow
   without end in a program whose functions all have different names. */

#include "Python.h"
#include "pycore_hashtable.h"
#include "pycore_perf_base.h"       // _PyPerfBase_IsReady()
#include "pycore_perf_retired.h"

#define KEYS_MAX ((size_t)16 * 1024)

/* Bytes of a name and a file.  This is about ten times what is usual. */
#define KEY_SIZE_MAX ((size_t)1024)

/* The name and the file of a function, as the interpreter stores their characters. */
struct key {
    const void *qualname, *filename;
    size_t qualname_size, filename_size;    // bytes
    uint8_t qualname_kind, filename_kind;   // bytes of a character
};

/* What the table refers to. */
struct retired {
    struct key key;                 // its pointers point to `text`
    struct _PyPerfSlot *slots;      // linked by next_free; NULL: all are in use
    struct retired *newer;
    char text[];
};

static _Py_hashtable_t *table;      // the keys are struct key, NULL: none yet
static struct retired *oldest, *newest;


// --- Keys ------------------------------------------------------------------

static Py_uhash_t
key_hash(const void *data)
{
    const struct key *key = data;
    return (Py_uhash_t)_Py_HashBytes(key->qualname, (Py_ssize_t)key->qualname_size)
           ^ (Py_uhash_t)_Py_HashBytes(key->filename, (Py_ssize_t)key->filename_size);
}

static int
keys_are_equal(const void *one, const void *other)
{
    const struct key *a = one, *b = other;
    return a->qualname_size == b->qualname_size && a->filename_size == b->filename_size
           && a->qualname_kind == b->qualname_kind
           && a->filename_kind == b->filename_kind
           && memcmp(a->qualname, b->qualname, a->qualname_size) == 0
           && memcmp(a->filename, b->filename, a->filename_size) == 0;
}

/* Fill in *key, which borrows the characters of the names of `code`.  Returns false if
   they are too long. */
static bool
key_from_code(struct key *key, const PyCodeObject *code)
{
    if (!_PyPerfBase_IsReady(code->co_qualname)
            || !_PyPerfBase_IsReady(code->co_filename)) {
        return false;
    }
    key->qualname = PyUnicode_DATA(code->co_qualname);
    key->filename = PyUnicode_DATA(code->co_filename);
    key->qualname_kind = (uint8_t)PyUnicode_KIND(code->co_qualname);
    key->filename_kind = (uint8_t)PyUnicode_KIND(code->co_filename);
    key->qualname_size = (size_t)PyUnicode_GET_LENGTH(code->co_qualname)
                         * key->qualname_kind;
    key->filename_size = (size_t)PyUnicode_GET_LENGTH(code->co_filename)
                         * key->filename_kind;
    return key->qualname_size <= KEY_SIZE_MAX
           && key->filename_size <= KEY_SIZE_MAX - key->qualname_size;
}


// --- The table -------------------------------------------------------------

static struct retired *
table_get(const struct key *key)
{
    return table != NULL ? _Py_hashtable_get(table, key) : NULL;
}

/* Forget the oldest key.  Its slots are not used again. */
static void
table_forget_oldest(void)
{
    struct retired *retired = oldest;
    oldest = retired->newer;
    if (oldest == NULL) {
        newest = NULL;
    }
    _Py_hashtable_steal(table, &retired->key);
    PyMem_RawFree(retired);
}

/* Add a key that the table does not have.  Returns NULL if there is no memory. */
static struct retired *
table_add(const struct key *key)
{
    if (table == NULL) {
        _Py_hashtable_allocator_t allocator = {PyMem_RawMalloc, PyMem_RawFree};
        table = _Py_hashtable_new_full(key_hash, keys_are_equal, NULL, NULL,
                                       &allocator);
        if (table == NULL) {
            return NULL;
        }
    }
    if (table->nentries == KEYS_MAX) {
        table_forget_oldest();
    }
    struct retired *retired = PyMem_RawCalloc(
        1, sizeof(*retired) + key->qualname_size + key->filename_size);
    if (retired == NULL) {
        return NULL;
    }
    retired->key = *key;
    retired->key.qualname = retired->text;
    retired->key.filename = retired->text + key->qualname_size;
    memcpy(retired->text, key->qualname, key->qualname_size);
    memcpy(retired->text + key->qualname_size, key->filename, key->filename_size);
    if (_Py_hashtable_set(table, &retired->key, retired) < 0) {
        PyMem_RawFree(retired);
        return NULL;
    }
    *(newest != NULL ? &newest->newer : &oldest) = retired;
    newest = retired;
    return retired;
}


// --- What others use -------------------------------------------------------

void
_PyPerfRetired_Keep(struct _PyPerfSlot *slot, const PyCodeObject *code)
{
    struct key key;
    if (!key_from_code(&key, code)) {
        return;
    }
    struct retired *retired = table_get(&key);
    if (retired == NULL) {
        retired = table_add(&key);
    }
    if (retired != NULL) {
        slot->next_free = retired->slots;
        retired->slots = slot;
    }
}

struct _PyPerfSlot *
_PyPerfRetired_Take(const PyCodeObject *code)
{
    struct key key;
    if (table == NULL || !key_from_code(&key, code)) {
        return NULL;
    }
    struct retired *retired = table_get(&key);
    while (retired != NULL && retired->slots != NULL) {
        struct _PyPerfSlot *slot = retired->slots;
        retired->slots = slot->next_free;
        if (slot->number > _PyPerf_Pool.last_inherited) {
            return slot;
        }
    }
    return NULL;
}
