<?php
$missing = [];
$entry = @file_get_contents('includes/PHPVersionCheck.php') ?: '';
if (preg_match('/minimumVersion = \'([0-9.]+)\'|MIN_PHP_VERSION\s*=\s*\'([0-9.]+)\'/', $entry, $found)) {
    $least = end($found);
    if (version_compare(PHP_VERSION, $least, '<')) {
        $missing[] = "PHP $least or newer (this is " . PHP_VERSION . ')';
    }
}
foreach (['mysqli', 'mbstring', 'xml', 'intl', 'json', 'ctype', 'fileinfo', 'iconv'] as $extension) {
    if (!extension_loaded($extension)) {
        $missing[] = "the PHP extension $extension";
    }
}
if (!is_file('vendor/autoload.php')) {
    $missing[] = 'the directory vendor, which the packaged MediaWiki has';
}
fanout_end(['missing' => $missing]);
