<?php
$link = fanout_database();
$tables = fanout_tables($link);
$installed = in_array('page', $tables, true) && in_array('user', $tables, true)
    && in_array('updatelog', $tables, true);
$pending = [];
if ($installed) {
    $defines = @file_get_contents('includes/Defines.php') ?: '';
    if (preg_match("/'MW_VERSION', '([^']+)'/", $defines, $found)) {
        $key = $link->real_escape_string('fanout-schema-' . $found[1]);
        $done = $link->query("SELECT COUNT(*) FROM updatelog WHERE ul_key = '$key'")->fetch_row();
        if ($done[0] == 0) {
            $pending[] = "schema of {$found[1]}";
        }
    }
}
fanout_end(['installed' => $installed, 'pending' => $pending]);
