<?php
require 'wp-includes/version.php';
$missing = [];
if (version_compare(PHP_VERSION, $required_php_version, '<')) {
    $missing[] = "PHP $required_php_version or newer (this is " . PHP_VERSION . ')';
}
foreach (['mysqli', 'json'] as $extension) {
    if (!extension_loaded($extension)) {
        $missing[] = "the PHP extension $extension";
    }
}
fanout_end(['missing' => $missing]);
