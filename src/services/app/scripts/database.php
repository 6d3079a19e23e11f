<?php
// The site's database, by its settings file alone: the application isn't asked.
function fanout_database()
{
    global $fanout;
    $file = (string) getenv('FANOUT_SETTINGS');
    if (!is_readable($file)) {
        fanout_end(['error' => 'The settings file can not be read by this user']);
    }
    $read = require $file;
    switch ($fanout['driver']) {
        case 'wordpress':
            $parts = [DB_HOST, DB_NAME, DB_USER, DB_PASSWORD];
            break;
        case 'mediawiki':
            $parts = [$wgDBserver, $wgDBname, $wgDBuser, $wgDBpassword];
            break;
        case 'drupal':
        case 'drupal7':
            $one = $databases['default']['default'];
            $host = strpos($one['host'], ':') === false ? $one['host'] : "[{$one['host']}]";
            $parts = ["$host:{$one['port']}", $one['database'], $one['username'], $one['password']];
            break;
        default:
            $one = $read['database'];
            $parts = ["{$one['host']}:{$one['port']}", $one['name'], $one['user'], $one['password']];
    }
    preg_match('/^\[?(.*?)\]?:(\d+)$/', $parts[0], $address);
    mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
    $link = mysqli_init();
    $link->options(MYSQLI_OPT_CONNECT_TIMEOUT, 10);
    $link->real_connect($address[1], $parts[2], $parts[3], $parts[1], (int) $address[2]);
    return $link;
}

function fanout_tables($link)
{
    return array_column($link->query('SHOW TABLES')->fetch_all(), 0);
}
