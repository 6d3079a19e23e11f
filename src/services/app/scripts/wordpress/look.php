<?php
global $wp_db_version;
$installed = is_blog_installed();
$pending = [];
if ($installed) {
    wp_cache_flush();
    $version = (int) get_option('db_version');
    if ($version !== (int) $wp_db_version) {
        $pending[] = "database $version -> $wp_db_version";
    }
}
fanout_end(['installed' => $installed, 'pending' => $pending]);
