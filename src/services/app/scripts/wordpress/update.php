<?php
global $wp_db_version;
if (!is_blog_installed()) {
    fanout_end(['error' => 'WordPress is not installed here']);
}
wp_cache_flush();
require_once ABSPATH . 'wp-admin/includes/upgrade.php';
$before = (int) get_option('db_version');
wp_upgrade();
wp_cache_flush();
$after = (int) get_option('db_version');
if ($after !== (int) $wp_db_version) {
    fanout_end(['error' => "The database is at version $after and should be at $wp_db_version"]);
}
fanout_end(['changed' => $before !== $after, 'message' => "database $before -> $after"]);
