/* Stands in for a subject in `run`. Objects that are loaded into namespaces of their own need rsm_subject.so, so that
 * in `verify` the dynamic linker loads the real one into that namespace: LD_LIBRARY_PATH leads to it. Fires no stage.
 */
extern const char rsm_no_subject[];
const char rsm_no_subject[] = "no subject";
