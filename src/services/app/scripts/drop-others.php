<?php
// What an installation that died halfway has made.
$link = fanout_database();
$link->query('SET SESSION foreign_key_checks = 0');
$dropped = 0;
foreach ($link->query('SHOW FULL TABLES')->fetch_all() as [$name, $kind]) {
    if (in_array($name, $fanout['tables'], true)) {
        continue;
    }
    $quoted = '`' . str_replace('`', '``', $name) . '`';
    $link->query(($kind === 'VIEW' ? 'DROP VIEW ' : 'DROP TABLE ') . $quoted);
    $dropped++;
}
fanout_end(['changed' => $dropped > 0, 'message' => "$dropped tables removed"]);
