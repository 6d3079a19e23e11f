<?php
$argv = $_SERVER['argv'] = ['runJobs.php', '--maxjobs=1000', '--maxtime=240'];
$argc = $_SERVER['argc'] = count($argv);
restore_exception_handler();
require $fanout['docroot'] . '/maintenance/runJobs.php';
