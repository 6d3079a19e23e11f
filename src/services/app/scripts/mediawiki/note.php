<?php
// MediaWiki doesn't say which version its schema was updated for, so that is noted among the
// updates that were applied.
$defines = @file_get_contents('includes/Defines.php') ?: '';
if (preg_match("/'MW_VERSION', '([^']+)'/", $defines, $found)) {
    $link = fanout_database();
    $key = $link->real_escape_string('fanout-schema-' . $found[1]);
    $link->query("INSERT IGNORE INTO updatelog (ul_key) VALUES ('$key')");
}
fanout_end([]);
