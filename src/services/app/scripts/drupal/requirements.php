<?php
// Its own check comes too late: on a PHP that it can't run with, its installer dies after it has
// written. So its code says what it wants without being run.
$missing = [];
$text = (@file_get_contents('core/lib/Drupal.php') ?: '') . (@file_get_contents('core/includes/bootstrap.inc') ?: '');
if (preg_match("/(?:MINIMUM_PHP|DRUPAL_MINIMUM_PHP)'?\s*[=,]\s*'([0-9.]+)'/", $text, $found)
    && version_compare(PHP_VERSION, $found[1], '<')) {
    $missing[] = "PHP {$found[1]} or newer (this is " . PHP_VERSION . ')';
}
if (preg_match("/const VERSION = '(\d+)\./", $text, $found)) {
    $highest = [8 => '7.4', 9 => '8.2'][(int) $found[1]] ?? null;
    $here = PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION;
    if ($highest !== null && version_compare($here, $highest, '>')) {
        $missing[] = "PHP $highest or older (this is " . PHP_VERSION . ')';
    }
}
foreach (['pdo_mysql', 'dom', 'filter', 'gd', 'hash', 'json', 'pcre', 'session', 'SimpleXML',
    'SPL', 'tokenizer', 'xml'] as $extension) {
    if (!extension_loaded($extension)) {
        $missing[] = "the PHP extension $extension";
    }
}
if (!is_file('autoload.php')) {
    $missing[] = 'autoload.php, which composer makes';
}
fanout_end(['missing' => $missing]);
