<?php
(function () {
    $tables = fanout_tables(fanout_database());
    if (in_array('page', $tables, true) && in_array('user', $tables, true)) {
        fanout_end(['message' => 'it is installed already', 'installed' => true]);
    }
})();
// The installer wants to write a settings file and refuses to begin where there is one.
define('MW_CONFIG_FILE', $fanout['scratch'] . '/LocalSettings.php');
require getenv('FANOUT_SETTINGS');
$argv = $_SERVER['argv'] = [
    'install.php',
    '--server=' . $wgServer,
    '--scriptpath=' . $wgScriptPath,
    '--dbtype=mysql',
    '--dbserver=' . $wgDBserver,
    '--dbname=' . $wgDBname,
    '--dbuser=' . $wgDBuser,
    '--dbpass=' . $wgDBpassword,
    '--installdbuser=' . $wgDBuser,
    '--installdbpass=' . $wgDBpassword,
    '--pass=' . $fanout['password'],
    '--confpath=' . $fanout['scratch'],
    $fanout['title'],
    $fanout['admin'],
];
$argc = $_SERVER['argc'] = count($argv);
foreach (array_keys($GLOBALS) as $fanout_name) {
    if (strncmp($fanout_name, 'wg', 2) === 0) {
        unset($GLOBALS[$fanout_name]);
    }
}
restore_exception_handler();
require $fanout['docroot'] . '/maintenance/install.php';
