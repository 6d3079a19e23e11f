<?php
ob_start();
require 'wp-load.php';
if (!is_blog_installed()) {
    fanout_end(['error' => 'WordPress is not installed here']);
}
$fanout_due = 0;
foreach (wp_get_ready_cron_jobs() as $fanout_hooks) {
    $fanout_due += array_sum(array_map('count', $fanout_hooks));
}
// It ends the script.
register_shutdown_function(function () use (&$fanout_due) {
    $error = error_get_last();
    if (!$error || !($error['type'] & (E_ERROR | E_PARSE | E_COMPILE_ERROR | E_USER_ERROR))) {
        fanout_answer(['changed' => $fanout_due > 0, 'message' => "$fanout_due events ran"]);
    }
});
require 'wp-cron.php';
