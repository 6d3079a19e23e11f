<?php
$argv = $_SERVER['argv'] = ['update.php', '--quick', '--skip-external-dependencies'];
$argc = $_SERVER['argc'] = count($argv);
restore_exception_handler();
require $fanout['docroot'] . '/maintenance/update.php';
