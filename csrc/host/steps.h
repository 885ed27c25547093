/* The functions that bring stages about, each in the file that is named for it. */
#ifndef RSM_STEPS_H
#define RSM_STEPS_H

void rsm_exit_handlers_register(void);

void rsm_carry_library_ifunc(void);
void rsm_carry_preload_ifunc(void);
void rsm_carry_interposed_function(void);
void rsm_carry_opened_object(void);
void rsm_carry_new_namespace(void);

void rsm_thread_start(void);
void rsm_thread_recycled_stack(void);
void rsm_thread_cleanup_handler(void);
void rsm_thread_cancelled(void);
void rsm_thread_tls_destructor(void);
void rsm_thread_key_destructor(void);
void rsm_thread_detached(void);

void rsm_signal_main(void);
void rsm_signal_alternate_stack(void);
void rsm_signal_thread(void);
void rsm_signal_key_destructor(void);
void rsm_signal_critical_section(void);

void rsm_process_fork_child(void);
void rsm_process_atfork_child(void);
void rsm_process_vfork_child(void);
void rsm_process_clone_vm_child(void);
void rsm_process_clone_thread(void);
void rsm_process_clone_thread_zeroed(void);
void rsm_process_coroutine(void);

#endif
