<?php
$missing = [];
$text = @file_get_contents('includes/bootstrap.inc') ?: '';
if (preg_match("/DRUPAL_MINIMUM_PHP', '([0-9.]+)'/", $text, $found)
    && version_compare(PHP_VERSION, $found[1], '<')) {
    $missing[] = "PHP {$found[1]} or newer (this is " . PHP_VERSION . ')';
}
foreach (['pdo_mysql', 'dom', 'filter', 'gd', 'hash', 'json', 'pcre', 'session', 'SimpleXML', 'xml']
    as $extension) {
    if (!extension_loaded($extension)) {
        $missing[] = "the PHP extension $extension";
    }
}
fanout_end(['missing' => $missing]);
